"""The condition of the messages as a whole: ready, dropping, full or blocked, and why.

`condition` is pure: counts in, condition out.  `ConditionReporter` calls it now and then, and logs
each change, so that an operator learns of a loss while it happens.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gatewayd.device.message import DropReason
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.views import MessageStatistics

log = logging.getLogger(__name__)

QUIET = 60.0
"""Seconds without a further drop after which messages are no longer said to be dropped."""

DROPPED: Mapping[DropReason, Reason] = {
    DropReason.RATE: Reason(
        "dropped-rate",
        "A child sends more messages than its rate allows.",
        "Correct the child, or raise `rate` under [messages.child] and run gatewayctl reload.",
    ),
    DropReason.TOO_LARGE: Reason(
        "dropped-too-large",
        "A message is larger than its cloud, or gatewayd, accepts.",
        "Let the child send less in a message.",
    ),
    DropReason.SHARE: Reason(
        "dropped-share",
        "As much waits for a child as its share allows.",
        "See why its cloud does not accept it, or raise `share` under [messages.child] and run "
        "gatewayctl reload.",
    ),
    DropReason.TOTAL: Reason(
        "dropped-total",
        "As much waits for all children together as the outbox may hold.",
        "See why the clouds do not accept it, or raise `keep` under [messages] and run gatewayctl "
        "reload.",
    ),
    DropReason.AGE: Reason(
        "dropped-age",
        "Messages waited for their cloud longer than they may.",
        "See why the child is not online, or raise `keep_age` under [messages] and run gatewayctl "
        "reload.",
    ),
    DropReason.REFUSED: Reason(
        "dropped-refused",
        "A cloud refuses messages, or has no topic for them.",
        "See the last refusal of the child: gatewayctl messages ID.",
    ),
    DropReason.UNKNOWN_CHILD: Reason(
        "dropped-unknown-child",
        "Messages name a child that gatewayd does not know, or has not admitted.",
        "Correct the table of the door and run gatewayctl reload, or admit the child.",
    ),
    DropReason.FORGOTTEN: Reason(
        "dropped-forgotten", "What waited for a child that was forgotten or rejected is gone."
    ),
    DropReason.CORRUPT: Reason(
        "dropped-corrupt",
        "The outbox could not be read, and was begun again.",
        "Check the disk; the unreadable file lies beside the new one.",
    ),
}
"""Why messages are dropped, and what to do about it."""

UNUSABLE: Mapping[str, Reason] = {
    "full": Reason(
        "outbox-full",
        "The disk is full: the oldest messages make room for new ones.",
        "Free space on the disk of the outbox.",
    ),
    "blocked": Reason(
        "outbox-blocked",
        "No message can be stored, so none is accepted.",
        "Free space on the disk of the outbox, or repair it.",
    ),
}
"""What is wrong with the outbox, by the word of `MessageStatistics.state`."""

EXPECTED = frozenset({DropReason.FORGOTTEN, DropReason.UNKNOWN_CHILD})
"""What is dropped where all is well: counted, and no more."""
OF_ALL = frozenset({DropReason.TOTAL, DropReason.CORRUPT})
"""What concerns the gateway as a whole; any other drop concerns its child."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition of the messages.

    state: "disabled", "ready", "dropping", "full" or "blocked".
    reason: why; NONE where there is nothing to do.
    of_all: whether the gateway as a whole is degraded by it.
    """

    state: str
    reason: Reason = NONE
    of_all: bool = False


READY = Condition("ready")


def condition(state: str, recent: Mapping[str, int], why: str = "") -> Condition:
    """Return the condition.

    state, why: as of `MessageStatistics`.  recent: how many were dropped of late, by reason.
    """
    if (usual := UNUSABLE.get(state)) is not None:
        return Condition(state, replace(usual, text=why or usual.text), of_all=True)
    counted = {DropReason(reason): n for reason, n in recent.items() if n}
    counted = {reason: n for reason, n in counted.items() if reason not in EXPECTED}
    if counted:
        # what concerns all is named first, then the most frequent
        worst = max(counted, key=lambda reason: (reason in OF_ALL, counted[reason], reason))
        return Condition("dropping", DROPPED[worst], of_all=worst in OF_ALL)
    return Condition("disabled") if state == "disabled" else READY


class ConditionReporter:
    """The condition as it was last seen, and the log of its changes."""

    def __init__(self) -> None:
        self.now = READY
        self._before: Mapping[str, int] = {}
        self._recent: Counter[str] = Counter()
        self._known: set[str] = set()  # codes of reasons since it was ready
        self._last = 0.0

    def update(self, statistics: MessageStatistics, at: float) -> None:
        """Note the statistics of now.  at: seconds of the loop's clock."""
        dropped = statistics.total.dropped
        new = {reason: n - self._before.get(reason, 0) for reason, n in dropped.items()}
        self._before = dict(dropped)
        if any(n for reason, n in new.items() if reason not in EXPECTED):
            self._last = at
        elif at - self._last >= QUIET:
            self._recent.clear()
        self._recent.update({reason: n for reason, n in new.items() if n > 0})
        self.now = condition(statistics.state, self._recent, statistics.explanation)
        why = self.now.reason
        if self.now.state == "dropping" and why.code not in self._known:
            self._log(why)
        elif why is NONE and self._known:
            log.info(
                "Messages are stored, and none is dropped any more.",
                extra={"message_id": "messages-recovered"},
            )
        self._known = set() if why is NONE else self._known | {why.code}

    def _log(self, why: Reason) -> None:
        """Log a drop; the outbox itself logs what is wrong with the disk, and knows more of it."""
        number = sum(n for r, n in self._recent.items() if DROPPED[DropReason(r)] is why)
        log.warning(
            "Messages are dropped, %d so far: %s",
            number, why, extra={"reason": why.code, "message_id": "messages-dropped"},
        )  # fmt: skip
