"""What the gateway says of itself: values in the neutral form, which leave by its own lane.

Where a cloud knows the gateway as a device, it is reported there as any child's values are, so that
an operator sees a fleet where its data is.  The device needs a model with these properties; what a
model lacks, the cloud drops.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.message import PROPERTIES, DropReason
from gatewayd.device.views import MessageCounts
from gatewayd.messages.intake import IncomingMessage, MessageIntake

log = logging.getLogger(__name__)

DOOR = "(gateway)"
"""Stands for a door; no configured one can have this name."""
TICK = 5.0
"""Seconds between two checks whether a report is due: so soon after it is online, one is sent."""

_SECOND, _DAY = 1_000_000, 86_400 * 1_000_000
_GROUPS: Mapping[State, str] = {
    State.ONLINE: "online",
    State.OFFLINE: "offline",
    State.ABSENT: "offline",
    State.PENDING: "pending",
    State.REJECTED: "rejected",
    State.FAILED: "failed",
    State.FROZEN: "failed",
    State.RETIRED: "retired",
}
"""State to the property that counts it; all others are on their way, and "joining"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFacts:
    """What is known of the gateway now.

    state, store, protection: words of `ManagerView` and `StoreView`.  children: the state of each.
    certificate_expiry: when the first certificate expires that a cloud depends on; 0 for none.
    now: like it, microseconds since the epoch.
    """

    version: str
    state: str
    store: str
    protection: str
    children: Iterable[State]
    messages: MessageCounts
    certificate_expiry: int
    now: int


def values(facts: GatewayFacts) -> Mapping[str, object]:
    """Return the properties of the gateway, by names that every cloud accepts.  Pure."""
    counts = dict.fromkeys((*_GROUPS.values(), "joining"), 0)
    for state in facts.children:
        if state is State.ELSEWHERE:
            continue  # the other gateway reports it
        counts[_GROUPS.get(state, "joining")] += 1
    waiting, oldest = facts.messages, facts.messages.oldest
    found: dict[str, object] = {
        "version": facts.version,
        "state": facts.state,
        "store": facts.store,
        "protection": facts.protection,
        "children": sum(counts.values()),
        **counts,
        "messages_waiting": waiting.waiting,
        "bytes_waiting": waiting.bytes,
        "waiting_seconds": max(0, facts.now - oldest) // _SECOND if oldest else 0,
        "messages_dropped": sum(waiting.dropped.values()),
    }
    if facts.certificate_expiry:
        found["certificate_days"] = (facts.certificate_expiry - facts.now) // _DAY
    return found


class GatewayReporter:
    """What reports the gateway at each cloud where it is online.

    A report that is due while it is offline is left out: the next one says more.
    intake: of all messages.  online: returns the gateway's own devices that are online.
    facts: what is known now.  interval: seconds.  now: seconds of a steady clock.
    """

    def __init__(
        self,
        intake: MessageIntake,
        online: Callable[[], Iterable[DeviceId]],
        facts: Callable[[], GatewayFacts],
        interval: float,
        now: Callable[[], float],
    ) -> None:
        self._intake, self._online, self._facts = intake, online, facts
        self._interval, self._now = interval, now
        self._due: dict[DeviceId, float] = {}

    async def run(self) -> None:
        """Report whenever it is due, until cancelled."""
        while True:
            self._report()
            await asyncio.sleep(min(TICK, self._interval))

    def _report(self) -> None:
        now, online = self._now(), set(self._online())
        due = sorted(one for one in online if self._due.get(one, now) <= now)
        if not due or self._intake.blocked:
            return
        payload = json.dumps(values(self._facts())).encode()
        for device in due:
            self._due[device] = now + self._interval
            message = IncomingMessage(DOOR, device, PROPERTIES, payload)
            self._intake.offer(message, partial(_settled, device))


def _settled(device: DeviceId, why: DropReason | None) -> None:
    if why is not None:
        log.warning("Device %s: the gateway's report of itself was dropped: %s.", device, why)
