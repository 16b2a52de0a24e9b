"""Who calls, and how much of it at the same time."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable

from gatewayd.errors import Busy

MAX_KNOWN = 1024
"""Callers whose user is remembered; a bus never gives the same unique name twice."""

AskUser = Callable[[str, Callable[[int | None], None]], None]
Done = Callable[[int | None], None]


class Turns:
    """Bounds what each of many has under way."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: Counter[Hashable] = Counter()

    def take(self, who: Hashable) -> None:
        """Begin something.  Raises Busy."""
        if self._taken[who] >= self._limit:
            raise Busy("Too many of your calls are under way, try again")
        self._taken[who] += 1

    def give(self, who: Hashable) -> None:
        """End it."""
        self._taken[who] -= 1
        if self._taken[who] <= 0:
            del self._taken[who]


class Users:
    """Tells the user of a caller.  Used on the D-Bus thread; never waits.

    ask: tells the uid of a unique bus name, later; None where it cannot be told.
    own: the daemon's uid.
    limit: calls of one caller that may wait for its uid.
    """

    def __init__(self, ask: AskUser, own: int, limit: int) -> None:
        self._ask, self._turns = ask, Turns(limit)
        self._trusted = {0, own}
        self._known: OrderedDict[str, int] = OrderedDict()

    def of(self, sender: str, done: Done) -> None:
        """Have the uid given to `done`, now or later.  Raises Busy."""
        if sender in self._known:
            self._known.move_to_end(sender)
            done(self._known[sender])
            return
        self._turns.take(sender)
        self._ask(sender, lambda uid: self._learn(sender, uid, done))

    def trusts(self, uid: int) -> bool:
        """Whether a user is root or the daemon's own, and needs nobody's yes."""
        return uid in self._trusted

    def _learn(self, sender: str, uid: int | None, done: Done) -> None:
        self._turns.give(sender)
        if uid is not None:
            self._known[sender] = uid
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        done(uid)
