"""What a cloud may ask of the gateway: no more than the configuration allows, and logged.

A cloud can settle what a rule asks about, for its own children alone.  It never settles a
conflict, a missing proof or a limit: those are for people on the spot.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.admission.controller import AdmissionController
from gatewayd.admission.join_window import MAX_SECONDS, WindowOptions
from gatewayd.admission.policy.engine import APPROVAL_REQUIRED, WindowScope
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.record import Admission, CloudName
from gatewayd.errors import GatewayError
from gatewayd.manager.manager import DeviceManager
from gatewayd.runtime.backoff import RateLimiter
from gatewayd.settings.declare import setting

log = logging.getLogger(__name__)

COMPLAINTS = 10
"""Refusals that are logged in a minute, at most: a cloud may ask as often as it likes."""
MAX_WANTED = 1000
"""Wishes that may wait for the disk."""

_DELAYED = {State.ADMITTED, State.ACTIVATING, State.OFFLINE}


@dataclass(frozen=True, slots=True)
class CloudRequestSettings:
    """[cloud_requests]"""

    accept_permit: bool = setting(
        False, "let a cloud open the join window, for rules that name it, and as often as it likes"
    )
    accept_wanted: bool = setting(
        False, "let a cloud approve a child of its own that a rule with action ask holds"
    )


class CloudRequests:
    """Serves the port `Requests` of cloud/provider.py, which has the contracts.

    now: the event loop's clock, seconds.
    """

    def __init__(
        self,
        settings: CloudRequestSettings,
        manager: DeviceManager,
        admission: AdmissionController,
        now: Callable[[], float],
    ) -> None:
        self._settings, self._manager, self._admission = settings, manager, admission
        self._now = now
        self._wanted: dict[CloudName, None] = {}  # in the order in which they were asked for
        self._called = asyncio.Event()
        self._complaints = RateLimiter(COMPLAINTS, 60.0)

    def permit_join(self, provider: str, seconds: int) -> None:
        who, window = _who(provider), self._admission.window
        if not self._settings.accept_permit:
            self._complain(
                "The %s asked for the join window; accept_permit does not allow it.", who
            )
        elif window.opener not in ("", who):
            log.info("The %s asked for the join window; that of %s stays.", who, window.opener)
        else:
            scope = WindowOptions(WindowScope(provider=provider))
            window.permit(min(max(seconds, 0), MAX_SECONDS), scope, who)

    def approve(self, name: CloudName) -> None:
        who = _who(name.provider)
        if not self._settings.accept_wanted:
            self._complain("The %s asked for a child; accept_wanted does not allow it.", who)
        elif len(self._wanted) >= MAX_WANTED:
            self._complain("The %s asks for more children than can be looked at; one is left.", who)
        else:
            self._wanted[name] = None
            self._called.set()

    def retry(self, name: CloudName) -> None:
        device = self._admission.owner(name)
        child = self._manager.children.get(device) if device else None
        if child and child.state in _DELAYED and child.until > self._now():
            log.info("Tried again, asked for by the %s.", _who(name.provider), extra=_of(child.id))
            self._manager.restart_work(child)

    def _complain(self, sentence: str, who: str) -> None:
        if self._complaints.take(self._now()):
            log.warning(sentence, who)

    async def run(self) -> None:
        """Approve what is wanted and waits, until cancelled."""
        while True:
            await self._called.wait()
            self._called.clear()
            approve, self._wanted = self._wanted, {}
            waiting = self._waiting()
            for name in approve:
                await self._approve(name, waiting.get(name, ()))

    def _waiting(self) -> Mapping[CloudName, Sequence[DeviceId]]:
        """Return who waits for no more than a yes, by the name that a rule gives them."""
        found: dict[CloudName, list[DeviceId]] = {}
        for device in self._manager.children:
            if (name := self._asked_about(device)) is not None:
                found.setdefault(name, []).append(device)
        return found

    def _asked_about(self, device: DeviceId) -> CloudName | None:
        child = self._manager.children.get(device)
        if child is None or child.state is not State.PENDING:
            return None
        decision = self._admission.decide(device)
        return decision.cloud if decision.reason.code == APPROVAL_REQUIRED else None

    async def _approve(self, name: CloudName, waiting: Sequence[DeviceId]) -> None:
        who = _who(name.provider)
        if len(waiting) != 1:  # of two that claim one name, a cloud cannot tell which is genuine
            log.info("The %s asked for a child; %d wait for its yes.", who, len(waiting))
            return
        (device,) = waiting
        if self._asked_about(device) != name:
            return  # it changed while others were put on record
        try:
            reason = await self._admission.approve(device, "", who, Admission.CLOUD)
        except GatewayError as error:
            log.warning("The %s asked for it in vain: %s.", who, error, extra=_of(device))
        else:
            log.info("Approved by %s.", who, extra=_of(device))
            self._manager.post(device, lc.Admitted(reason))


def _who(provider: str) -> str:
    return f"cloud {provider}"


def _of(device: DeviceId) -> Mapping[str, str]:
    return {"device": device}
