"""What an operator may ask for: checks that it can be, puts it on record, and tells the mailbox."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Protocol

from gatewayd.admissions import Admissions, Register
from gatewayd.child import Child
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.errors import AmbiguousId, InvalidArgs, NoSuchDevice, WrongState
from gatewayd.gateway import Gateway
from gatewayd.joinwindow import scope

log = logging.getLogger(__name__)

MAX_TEXT = 200
"""Characters of an operator's own words that are kept."""

_APPROVABLE = {State.DISCOVERED, State.PENDING, State.REJECTED, State.RETIRED}
_WAITING = {State.ADMITTED, State.ACTIVATING, State.OFFLINE, State.DISCOVERED}
_MIN_PREFIX = 3


class RuleList(Protocol):
    """The rules in force."""

    def listed(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return name, action, provider and hits of each rule, in order."""


class Commands:
    """Serves the port `Commands` of status/snapshot.py, which has the contracts."""

    def __init__(
        self,
        gateway: Gateway,
        admissions: Admissions,
        register: Register,
        rules: RuleList,
        reload: Callable[[], Awaitable[None]],
    ) -> None:
        self._gateway, self._admissions, self._register = gateway, admissions, register
        self._rules, self._reload = rules, reload

    async def approve(self, device: str, provider: str, caller: str) -> None:
        child = self._child(device)
        _demand(child, child.state in _APPROVABLE, "pending")
        reason = await self._admissions.approve(child.id, provider, caller)
        self._gateway.post(child.id, lc.Admitted(reason))

    async def reject(self, device: str, reason: str, caller: str) -> None:
        child = self._child(device)
        _demand(child, child.state is not State.REJECTED, "waiting or admitted")
        text = _own_words(reason)
        self._gateway.post(
            child.id, lc.Rejected(await self._admissions.reject(child.id, text, caller))
        )

    async def retry(self, device: str, caller: str) -> None:
        child = self._child(device)
        if child.state is State.FAILED and child.reason.substate != "needs-reset":
            self._gateway.post(child.id, lc.Admitted(Reason("retried", f"Retried by {caller}.")))
            return
        _demand(child, child.state in _WAITING, "failed or waiting")
        self._gateway.begin_anew(child.id)

    async def reregister(self, device: str, again: str, caller: str) -> None:
        child = self._child(device)
        if again != child.id or device != child.id:
            raise InvalidArgs("Reregister takes the full id, twice")
        record = self._register.get(child.id)
        if record is None or not lc.knows(child.state, lc.Reset):
            raise WrongState(_wrong(child, "registered or failed"))
        # the number of the attempt is used up, so that the slot of the old secret is not taken
        await self._register.save(
            replace(
                record, attempt=record.attempt + 1, stored=0, activating=0, activated_at=0, stale=0
            )
        )
        self._gateway.post(child.id, lc.Reset(Reason("reregistered", f"Asked for by {caller}.")))

    async def rename(self, device: str, label: str, caller: str) -> None:
        child = self._child(device)
        text = _own_words(label)
        if not text:
            raise InvalidArgs("A name has 1 to 200 printable characters")
        record = self._register.get(child.id)
        if record is not None:
            await self._register.save(replace(record, label=text))
        child.label = text
        log.info("Renamed by %s.", caller, extra={"device": child.id})
        self._gateway.refresh(child.id)

    async def forget(self, device: str, caller: str) -> None:
        child = self._child(device)
        await self._admissions.forget(child.id)
        present = child.present
        self._gateway.post(child.id, lc.Forgotten(Reason("forgotten", f"Forgotten by {caller}.")))
        if present:  # it is still there, and begins again as a stranger
            self._gateway.post(child.id, lc.Seen())

    async def permit_join(self, seconds: int, options: Mapping[str, object], caller: str) -> None:
        wanted = scope(options)
        if wanted.window.rule not in ("", *(name for name, *_ in self._rules.listed())):
            raise InvalidArgs("No rule has this name")
        self._admissions.window.permit(seconds, wanted, caller)

    async def reload(self, caller: str) -> None:
        log.info("Reload asked for by %s.", caller)
        await self._reload()

    def resolve(self, device: str) -> DeviceId:
        children = self._gateway.children
        if device in children:
            return DeviceId(device)
        found = [c for c in children if len(device) >= _MIN_PREFIX and c.startswith(device)]
        found = found or [c for c in children if self._cloud_id(c) == device]
        if len(found) > 1:
            raise AmbiguousId("More than one device has an id that begins so")
        if not found:
            raise NoSuchDevice("No such device")
        return found[0]

    def test_admission(self, device: str) -> tuple[str, str, tuple[str, ...]]:
        decision = self._admissions.decide(self.resolve(device))
        return decision.action.value, decision.rule, (str(decision.reason), *decision.trace)

    def list_rules(self) -> tuple[tuple[str, str, str, int], ...]:
        return self._rules.listed()

    def _child(self, device: str) -> Child:
        return self._gateway.children[self.resolve(device)]

    def _cloud_id(self, device: DeviceId) -> str:
        record = self._register.get(device)
        cloud: CloudName | None = record.cloud if record else None
        return str(cloud) if cloud else ""


def _demand(child: Child, fits: bool, expected: str) -> None:
    if not fits:
        raise WrongState(_wrong(child, expected))


def _wrong(child: Child, expected: str) -> str:
    return f"Device {child.id} is {child.state.shown}, not {expected}"


def _own_words(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).strip()[:MAX_TEXT]
