"""What an operator may ask for: checks that it can be, puts it on record, and tells the mailbox."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gatewayd.admission.controller import AdmissionController, Register
from gatewayd.admission.join_window import parse_options
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName, unchanged
from gatewayd.device.recovery import on_retry
from gatewayd.errors import AmbiguousId, InvalidArgs, NoSuchDevice, NotSupported, WrongState
from gatewayd.manager.manager import Child, DeviceManager
from gatewayd.runtime.text import without_unprintable

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


async def _no_dump() -> int:
    raise NotSupported("Nobody collects diagnostics here")


def _no_look(_seconds: int, _protocols: Sequence[str]) -> None:
    raise NotSupported("Nobody looks for devices here")


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What an operator may ask of the daemon itself.

    reload: reads the configuration again.  Raises ConfigError.
    look: has discoverers look again for so many seconds.  Raises InvalidArgs.
    dump: returns a descriptor from which diagnostics can be read.
    """

    reload: Callable[[], Awaitable[None]]
    look: Callable[[int, Sequence[str]], None] = _no_look
    dump: Callable[[], Awaitable[int]] = _no_dump


class OperatorCommands:
    """Serves the port `OperatorCommands` of status/ports.py, which has the contracts."""

    def __init__(
        self,
        gateway: DeviceManager,
        admissions: AdmissionController,
        register: Register,
        rules: RuleList,
        upkeep: Upkeep,
    ) -> None:
        self._gateway, self._admissions, self._register = gateway, admissions, register
        self._rules, self._upkeep = rules, upkeep

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
            await self._register.update(child.id, lambda r: on_retry(unchanged(r)))
            self._gateway.post(child.id, lc.Retried(Reason("retried", f"Retried by {caller}.")))
            return
        if child.state is State.FAILED:
            raise WrongState(f"Device {child.id} needs a reset at the cloud, then Reregister")
        _demand(child, child.state in _WAITING, "failed or waiting")
        self._gateway.restart_work(child)

    async def reregister(self, device: str, again: str, caller: str) -> None:
        child = self._child(device)
        if again != child.id or device != child.id:
            raise InvalidArgs("Reregister takes the full id, twice")
        self._demand_resettable(child)  # before a session is closed for nothing
        async with self._gateway.halted(child):
            self._demand_resettable(child)
            await self._register.update(child.id, lambda r: unchanged(r).without_any_secret())
            reason = Reason("reregistered", f"Asked for by {caller}.")
            self._gateway.post(child.id, lc.Reset(reason))

    async def rename(self, device: str, label: str, caller: str) -> None:
        child = self._child(device)
        text = _own_words(label)
        if not text:
            raise InvalidArgs("A name has 1 to 200 printable characters")
        if self._register.get(child.id) is not None:
            await self._register.update(child.id, lambda r: replace(unchanged(r), label=text))
        child.label = text
        log.info("Renamed by %s.", caller, extra={"device": child.id})
        self._gateway.refresh(child)

    async def forget(self, device: str, caller: str) -> None:
        child = self._child(device)
        async with self._gateway.halted(child):
            await self._admissions.forget(child.id)
            reason = Reason("forgotten", f"Forgotten by {caller}.")
            self._gateway.post(child.id, lc.Forgotten(reason))
            if child.present:  # it is still there, and begins again as a stranger
                self._gateway.post(child.id, lc.Seen())

    async def permit_join(self, seconds: int, options: Mapping[str, object], caller: str) -> None:
        wanted = parse_options(options)
        if wanted.scope.rule not in ("", *(name for name, *_ in self._rules.listed())):
            raise InvalidArgs("No rule has this name")
        self._admissions.window.permit(seconds, wanted, caller)

    async def reload(self, caller: str) -> None:
        log.info("Reload asked for by %s.", caller)
        await self._upkeep.reload()

    async def discover(self, seconds: int, protocols: Sequence[str], caller: str) -> None:
        self._upkeep.look(seconds, protocols)
        log.info("Discovery for %d s asked for by %s.", seconds, caller)

    async def dump(self, caller: str) -> int:
        log.info("Diagnostics asked for by %s.", caller)
        return await self._upkeep.dump()

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

    def _demand_resettable(self, child: Child) -> None:
        fits = self._gateway.holds(child) and lc.knows(child.state, lc.Reset)
        on_record = self._register.get(child.id) is not None
        _demand(child, fits and on_record, "registered or failed")

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
    return without_unprintable(text).strip()[:MAX_TEXT]
