"""Whether another one holds a child's device, and which of the two gives way.

Vendors close the older of two sessions of one device, so that two holders throw each other out.
MQTT 3.1.1 has no packet by which a cloud could say so (the reason 0x8E, session taken over, came
with MQTT 5): a closing of the cloud is all that either sees.  So the one that is thrown out YIELDS
times in a row, each time soon after its login, gives way.  Each closing comes of the other's login;
the one that reaches the number has just been thrown out by one that has the session, so that both
never give way at once.  As waits grow after short sessions alone, it is mostly the newcomer that
does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import NONE, Reason

REMEDY = (
    "Find what else logs in with its device name: another gateway, a copy of this disk, or the "
    "device itself.  Gateways that see the same LAN must share it: see SEVERAL GATEWAYS in "
    "gatewayd(8)."
)
CONTESTED = Reason(
    "session-contested",
    "The cloud closes one session of this child after another: most likely it is logged in "
    "elsewhere, too.",
    REMEDY,
)
YIELDED = Reason(
    "session-yielded",
    "Another one has logged in with the name of this child each time that this gateway did, and "
    "has the session now: this gateway gives way, and seldom tries again.",
    f"{REMEDY}  To have it here at once, stop that, then run gatewayctl retry CHILD.",
    "waiting",
)

CLOSINGS = 3
"""Sessions in a row that the cloud has closed, until another one is taken to hold the device."""
YIELDS = 4
"""Short sessions in a row that the cloud has closed, and no others meanwhile, until this gateway
gives way."""
TOGETHER = 2.0
"""Seconds within which sessions end that a cloud closes at once, as when it restarts."""
NEUTRAL = frozenset({"connects-exhausted", "cloud-unavailable"})
"""Codes of logins that failed by a limit, here or at a cloud that answered: one of two that throw
each other out meets it soon."""
DAY = 86400.0
MOST_LOSSES = 500
"""Closings of a day that are counted, at most."""


@dataclass(slots=True)
class Closing:
    """A closing by a cloud: all of its sessions that end within TOGETHER.

    began: when the first of them ended, seconds.  open: sessions that there were before.
    closed: whose sessions, once each, however often they were opened again meanwhile.
    """

    began: float
    open: int
    closed: set[DeviceId] = field(default_factory=set)

    @property
    def is_of_cloud(self) -> bool:
        """Whether at least half of the other sessions ended, too: that is no rival of one child."""
        others = len(self.closed) - 1
        return others > 0 and 2 * others >= self.open - 1


class CloudClosings:
    """The newest closings of each cloud.

    now: seconds of a steady clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._newest: dict[str, Closing] = {}

    def note(self, cloud: str, device: DeviceId, open_before: int) -> Closing:
        """Note that a cloud has closed a session; return what it is part of, which may grow.

        open_before: sessions at that cloud before it ended, this one counted.
        """
        closing = self._newest.get(cloud)
        if closing is None or self._now() - closing.began > TOGETHER:
            closing = self._newest[cloud] = Closing(self._now(), open_before)
        closing.closed.add(device)
        return closing


class Contest:
    """What the ends of one child's sessions show of another holder of its device.

    short: seconds of a session that ended soon after its login.
    longest: seconds of a session whose closing counts as a sign at all.
    now: seconds of a steady clock.

    yields: how often this gateway has given way in a row.
    """

    def __init__(self, short: float, longest: float, now: Callable[[], float]) -> None:
        self._short, self._longest, self._now = short, longest, now
        self._closings = self.yields = 0
        self._newest: Closing | None = None
        self._in_a_row: list[Closing] = []
        self._losses: deque[float] = deque(maxlen=MOST_LOSSES)

    def note(self, lasted: float, closing: Closing | None) -> bool:
        """Note how a session ended, after how many seconds; return whether there seems to be one.

        closing: what the closing by the cloud is part of; None where the cloud did not close it.
        """
        counts = closing is not None and lasted < self._longest
        self._closings = self._closings + 1 if counts else 0
        self._newest, is_short = closing, lasted < self._short
        if closing is None or not is_short:
            self._in_a_row.clear()
        else:
            self._in_a_row = [*self._in_a_row, closing][-YIELDS:]
        self.yields = self.yields if is_short else 0
        return self._closings >= CLOSINGS

    def failed(self, reason: Reason) -> None:
        """Note that a login failed: a cloud that is gone may have closed what it did by that."""
        if reason.code in NEUTRAL:
            return
        self._closings, self._newest = 0, None
        self._in_a_row.clear()

    def must_yield(self) -> bool:
        """Whether this gateway is to give way, now that all is known of the newest closing.

        To be asked once after each end of a session, a moment later.  One that has given way needs
        one more closing to do so again.
        """
        if any(closing.is_of_cloud for closing in self._in_a_row):
            self._in_a_row.clear()
        if len(self._in_a_row) < (1 if self.yields else YIELDS):
            return False
        self._in_a_row.clear()
        self.yields += 1
        return True

    def opened(self) -> Reason:
        """Note that the session was opened again; return what to say of it, NONE for nothing.

        The one that keeps a device sees no more of the other than that it was thrown out.
        """
        if self._newest is not None and not self._newest.is_of_cloud:
            self._losses.append(self._now())
        self._newest = None
        lately = sum(at > self._now() - DAY for at in self._losses)
        if lately < CLOSINGS:
            return NONE
        return Reason(
            "session-taken-over",
            f"{lately} times in the last 24 hours, the cloud has closed the session of this child "
            "while others stayed: most likely something else logs in with its name now and then.",
            REMEDY,
        )
