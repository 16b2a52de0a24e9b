"""Who calls: the user of a caller, the user's name, and from where the call comes."""

from __future__ import annotations

import asyncio
import contextlib
import pwd
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from typing import Any

from gatewayd.dbus.glib import BUS_PATH, RemoteCaller, RemoteMethod, Variant
from gatewayd.dbus.names import BUS, PROPERTIES
from gatewayd.errors import AccessDenied, Busy
from gatewayd.runtime.text import one_line

MAX_KNOWN = 1024
"""Callers whose user is remembered; a bus never gives the same unique name twice."""
NAME_PATIENCE = 1.0
"""Seconds in which the system has to know a name."""
MAX_NAMES = 1024
"""Names of users that are remembered."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}\$?")


def look_up(uid: int) -> str:
    """Return the name of a user; "" where there is none.  Blocks: a directory may be asked."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


class UserNames:
    """The names of users, remembered.  Used on the event loop.

    A directory service may not answer, so each name is asked for on a thread that the end of the
    process does not wait for, one at a time; while one hangs, numbers stand for names.

    ask: returns the name of a uid, "" for none; may block.
    """

    def __init__(self, ask: Callable[[int], str] = look_up) -> None:
        self._ask = ask
        self._names: dict[int, str] = {}
        self._asking: asyncio.Future[None] | None = None

    async def of(self, uid: int) -> str:
        """Return the name of a user, as "olga"; "uid 1000" where it has none or is not known."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NAME_PATIENCE):
                while uid not in self._names:
                    if self._asking is None:
                        self._begin(uid)
                    assert self._asking is not None
                    await asyncio.shield(self._asking)
        return self._names.get(uid, f"uid {uid}")

    def _begin(self, uid: int) -> None:
        loop = asyncio.get_running_loop()
        self._asking = loop.create_future()

        def run() -> None:
            try:
                name = self._ask(uid)
            except OSError:
                name = ""
            with contextlib.suppress(RuntimeError):  # the loop is closed: gatewayd has ended
                loop.call_soon_threadsafe(self._learn, uid, name)

        threading.Thread(target=run, name="user-name", daemon=True).start()

    def _learn(self, uid: int, name: str) -> None:
        if len(self._names) >= MAX_NAMES:
            self._names.clear()
        self._names[uid] = name if _PLAIN.fullmatch(name) else f"uid {uid}"
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.set_result(None)


LOGIN = "org.freedesktop.login1"
GET_SESSION = RemoteMethod(LOGIN, "/org/freedesktop/login1", f"{LOGIN}.Manager", "GetSessionByPID")
GET_PROCESS = RemoteMethod(BUS, BUS_PATH, BUS, "GetConnectionUnixProcessID")
LOGIN_PATIENCE_MS = 1_000
MAX_ORIGIN = 100  # characters


class ConcurrencyLimit:
    """A limit on what is under way at the same time, for each owner and for all together."""

    def __init__(self, each: int, total: int | None = None) -> None:
        self._each, self._total = each, total
        self._held: Counter[Hashable] = Counter()
        self._count = 0

    def acquire(self, owner: Hashable) -> None:
        """Begin something.  Raises Busy."""
        if self._total is not None and self._count >= self._total:
            raise Busy("Too many calls are under way, try again")
        if self._held[owner] >= self._each:
            raise Busy("Too many of your calls are under way, try again")
        self._held[owner] += 1
        self._count += 1

    def release(self, owner: Hashable) -> None:
        """End it."""
        self._count -= 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]

    @contextlib.contextmanager
    def hold(self, owner: Hashable) -> Iterator[None]:
        """Count what is done inside.  Raises Busy."""
        self.acquire(owner)
        try:
            yield
        finally:
            self.release(owner)

    def __len__(self) -> int:
        return self._count


class CallerUsers:
    """The users of callers.  Used on the event loop.

    ask: returns the uid of a unique bus name; None where the bus does not report it.
    own: the daemon's uid.
    limit: calls of one caller that may wait for its uid.
    """

    def __init__(self, ask: Callable[[str], Awaitable[int | None]], own: int, limit: int) -> None:
        self._ask, self._waiting = ask, ConcurrencyLimit(limit)
        self._trusted = {0, own}
        self._known: OrderedDict[str, int] = OrderedDict()

    async def of(self, sender: str) -> int:
        """Return the uid of a caller.  Raises AccessDenied, Busy."""
        if sender in self._known:
            self._known.move_to_end(sender)
            return self._known[sender]
        with self._waiting.hold(sender):
            uid = await self._ask(sender)
        if uid is None:
            raise AccessDenied("The message bus does not report your user")
        self._known[sender] = uid
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return uid

    def owner(self, sender: str) -> Hashable:
        """Return whose limit a call counts for: the user, or the sender until that is known.

        On any thread.
        """
        return self._known.get(sender, sender)

    def forget_all(self) -> None:
        """Forget all callers: another bus gives their names to others."""
        self._known.clear()

    def trusts(self, uid: int) -> bool:
        """Whether a user is root or the daemon's own, and needs no authorization."""
        return uid in self._trusted


class CallerOrigins:
    """From where callers come: the session of systemd-logind that their process belongs to.

    Used on the event loop.  It is for people to read, as a process may lend its connection.
    """

    def __init__(self, remote: RemoteCaller) -> None:
        self._remote = remote

    async def of(self, sender: str) -> str:
        """Return where a caller is, as "sshd from 192.0.2.7" or "login on tty1".

        "process 4711" outside of any session; "" where the bus does not report the process.
        """
        found = await self._call(GET_PROCESS, Variant("(s)", (sender,)))
        if not found:
            return ""
        pid = int(found[0])
        session = await self._call(GET_SESSION, Variant("(u)", (pid,)))
        if not session:
            return f"process {pid}"
        method = RemoteMethod(LOGIN, str(session[0]), PROPERTIES, "GetAll")
        facts = await self._call(method, Variant("(s)", (f"{LOGIN}.Session",)))
        return (origin_of(facts[0]) if facts else "") or f"process {pid}"

    async def _call(self, method: RemoteMethod, arguments: Variant) -> tuple[Any, ...] | None:
        try:
            reply = await self._remote.call(method, arguments, LOGIN_PATIENCE_MS, activate=False)
        except Busy:
            return None
        return reply.values


def origin_of(session: Mapping[str, object]) -> str:
    """Return where a session is, by its properties (org.freedesktop.login1(5)); "" if unknown."""
    host, terminal = session.get("RemoteHost"), session.get("TTY")
    service = session.get("Service") or "login"
    if session.get("Remote") and host:
        return one_line(f"{service} from {host}", MAX_ORIGIN)
    return one_line(f"{service} on {terminal}", MAX_ORIGIN) if terminal else ""
