"""The requests of clouds to the gateway: as far as the configuration allows, and logged.

A cloud can approve what a rule asks about, for its own children alone.  It never settles a
conflict, too low a trust or a limit: those are for an operator on site.
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
from gatewayd.device.decision_log import DecisionKind, DecisionLog
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.record import Admission, CloudName
from gatewayd.errors import GatewayError, StoreError
from gatewayd.manager.manager import DeviceManager
from gatewayd.runtime.rate_limiter import SlidingWindow
from gatewayd.settings.declare import setting

log = logging.getLogger(__name__)

REFUSALS_LOGGED = 10
"""How many refusals are logged in a minute: a cloud may ask as often as it likes."""
MAX_APPROVALS = 1000
"""Requests for approval that may wait for the disk."""

_DELAYED = {State.ADMITTED, State.ACTIVATING, State.OFFLINE}


@dataclass(frozen=True, slots=True)
class CloudRequestSettings:
    """[cloud_requests]"""

    allow_permit_join: bool = setting(
        False, "allow a cloud to open the join window, for rules that name it, any number of times"
    )
    allow_approve: bool = setting(
        False, "allow a cloud to approve a child of its own that a rule with action ask holds"
    )


class CloudRequests:
    """The requests of all clouds: the port of cloud/provider.py, which has the contracts.

    now: the event loop's clock, seconds.  decisions: the log of them.
    """

    def __init__(
        self,
        settings: CloudRequestSettings,
        manager: DeviceManager,
        admission: AdmissionController,
        now: Callable[[], float],
        decisions: DecisionLog,
    ) -> None:
        self._settings, self._manager, self._admission = settings, manager, admission
        self._now, self._decisions = now, decisions
        self._approvals: dict[CloudName, None] = {}  # in the order of the requests
        self._requested = asyncio.Event()
        self._refusals = SlidingWindow(REFUSALS_LOGGED, 60.0)

    def permit_join(self, provider: str, seconds: int) -> None:
        who, window = _who(provider), self._admission.window
        if not self._settings.allow_permit_join:
            self._log_refusal("allow_permit_join is false", "the join window", provider)
        elif window.opener not in ("", who):
            sentence = "Cloud %r requested the join window: refused, that of %s is open."
            log.info(sentence, provider, window.opener)
        else:
            scope = WindowOptions(WindowScope(provider=provider))
            window.permit(min(max(seconds, 0), MAX_SECONDS), scope, who)

    def approve(self, name: CloudName) -> None:
        if not self._settings.allow_approve:
            self._log_refusal("allow_approve is false", f"approval of {name}", name.provider)
        elif len(self._approvals) >= MAX_APPROVALS:
            self._log_refusal("too many requests wait", f"approval of {name}", name.provider)
        else:
            self._approvals[name] = None
            self._requested.set()

    def retry(self, name: CloudName) -> None:
        device = self._admission.owner(name)
        child = self._manager.children.get(device) if device else None
        if child and child.state in _DELAYED and child.until > self._now():
            sentence = "Device %s: retry requested by cloud %r."
            log.info(sentence, child.id, name.provider, extra=_of(child.id))
            self._manager.restart_work(child)

    def _log_refusal(self, why: str, what: str, provider: str) -> None:
        if self._refusals.take(self._now()):
            log.warning("Cloud %r requested %s: refused, %s.", provider, what, why)

    async def run(self) -> None:
        """Approve the pending children that clouds want, until cancelled."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            names, self._approvals = self._approvals, {}
            waiting = self._waiting()
            for name in names:
                await self._approve(name, waiting.get(name, ()))

    def _waiting(self) -> Mapping[CloudName, Sequence[DeviceId]]:
        """Return the children that wait only for approval, by the name that a rule gives them."""
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
        provider = name.provider
        if len(waiting) != 1:  # of two that claim one name, a cloud does not know the genuine one
            sentence = "Cloud %r requested approval of %s: %d devices match."
            log.info(sentence, provider, name, len(waiting))
            return
        (device,) = waiting
        if self._asked_about(device) != name:
            return  # it changed while others were approved
        try:
            reason = await self._admission.approve(device, "", _who(provider), Admission.CLOUD)
        except GatewayError as error:
            sentence = "Device %s: cloud %r requested approval, which failed: %s."
            log.warning(sentence, device, provider, error, extra=_of(device))
            return
        log.info("Device %s was approved by cloud %r.", device, provider, extra=_of(device))
        self._manager.post(device, lc.Admitted(reason))
        try:
            await self._decisions.append(DecisionKind.APPROVED, device, _who(provider))
        except StoreError as error:
            sentence = "Device %s: not in the log of decisions that cloud %r approved it: %s."
            log.warning(sentence, device, provider, error, extra=_of(device))


def _who(provider: str) -> str:
    return f"cloud {provider}"


def _of(device: DeviceId) -> Mapping[str, str]:
    return {"device": device}
