"""The commands of operators."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from gatewayd.admission.controller import AdmissionController, RulesInForce
from gatewayd.admission.join_window import parse_options
from gatewayd.admission.policy.rules import Action
from gatewayd.admission.policy.suggestion import CannotSuggest, CloudChoice, RulePurpose
from gatewayd.device import lifecycle as lc
from gatewayd.device.decision_log import DecisionLog, DecisionQuery
from gatewayd.device.identity import GATEWAY_PREFIX, DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName, RecordStore, unchanged
from gatewayd.device.recovery import on_retry
from gatewayd.device.views import Facts, MoveRow
from gatewayd.errors import AmbiguousId, InvalidArgs, NoSuchDevice, StoreError, WrongState
from gatewayd.manager.cloud_choice import chosen_cloud
from gatewayd.manager.identity_conflicts import IdentityConflicts
from gatewayd.manager.manager import WAITING, Child, DeviceManager
from gatewayd.manager.moves import OperatorMoves
from gatewayd.runtime.text import without_unprintable

log = logging.getLogger(__name__)

FILES_CHANGED = Reason("configuration-reloaded", "Files of its cloud have changed.")

MAX_TEXT = 200
"""The most characters that are kept of a text by an operator."""

_APPROVABLE = {
    State.DISCOVERED, State.PENDING, State.REJECTED, State.RETIRED, State.FROZEN, State.ELSEWHERE,
}  # fmt: skip
"""The last is refused with the name of the gateway's share."""
_RETRIABLE = WAITING | {State.DISCOVERED, State.REGISTERED}
_TRIED = _RETRIABLE | {State.FAILED, State.PENDING}
_MIN_PREFIX = 3
_MOST = (1 << 63) - 1
"""What SQLite takes as a number."""

DECISIONS = 500
"""Decisions that are returned where no limit is named."""


class DiscoveryCommands(Protocol):
    """What operators may ask of discovery."""

    def rescan(self, seconds: int, protocols: Sequence[str]) -> None:
        """Have discoverers look again for so many seconds.  Raises InvalidArgs."""

    def refused(self) -> Sequence[tuple[int, str, str, str, str, str, int]]:
        """Return what was refused, the newest first: as ListRefused returns it."""

    async def record(self, seconds: int, most: int) -> int:
        """Return a descriptor from which a recording of what comes can be read.

        Raises Busy, InvalidArgs, WrongState, OSError.
        """


class ProofCommands(Protocol):
    """What operators may ask of proofs."""

    def retry(self, device: DeviceId) -> bool:
        """Have a device asked again now; False where it does not wait for that."""

    async def repin(self, device: DeviceId) -> None:
        """Pin the other key that a frozen child has shown.  Raises WrongState, StoreError."""


class OperatorCommands:
    """The commands of operators on children and on the daemon: the port `ManagerCommands`.

    Each checks that it is possible, puts it on record, and then posts the event.

    reload: reads the configuration again.  Raises ConfigError.
    discovery: what is asked of discovery.
    proofs: what is asked of proofs.
    conflicts: those about who a child is.  moves: those about the clouds of children.
    dump: returns a descriptor from which diagnostics can be read.
    quiet_for: returns the seconds for which a child has to wait for an earlier request.
    products: those of each configured cloud; None for one that does not list them.
    shared: whether another gateway may have a child, and its records: a site on etcd.
    """

    def __init__(  # noqa: PLR0913  # by keyword: what the root joins
        self,
        manager: DeviceManager,
        admission: AdmissionController,
        records: RecordStore,
        rules: RulesInForce,
        *,
        decisions: DecisionLog,
        quiet_for: Callable[[DeviceId], float],
        products: Mapping[str, Collection[str] | None],
        reload: Callable[[], Awaitable[None]],
        dump: Callable[[], Awaitable[int]],
        discovery: DiscoveryCommands,
        conflicts: IdentityConflicts,
        moves: OperatorMoves,
        proofs: ProofCommands,
        shared: bool = False,
    ) -> None:
        self._manager, self._admission, self._records = manager, admission, records
        self._decisions, self._quiet_for, self._products = decisions, quiet_for, products
        self._rules, self._reload, self._dump = rules, reload, dump
        self._discovery, self._conflicts, self._proofs = discovery, conflicts, proofs
        self._moves, self._shared = moves, shared

    async def approve(self, device: str, provider: str, caller: str) -> None:
        child = self._own(device)
        _demand(child, child.state in _APPROVABLE, "pending")
        reason = await self._admission.approve(child.id, provider, caller)
        self._manager.post(child.id, lc.Admitted(reason))

    async def reject(self, device: str, reason: str, caller: str) -> None:
        child = self._own(device)
        _demand(child, child.state is not State.REJECTED, "waiting or admitted")
        text = _printable(reason)
        self._manager.post(
            child.id, lc.Rejected(await self._admission.reject(child.id, text, caller))
        )

    async def retry(self, device: str, caller: str) -> None:
        child = self._own(device)
        if await self._moves.resume(child) and child.state not in _TRIED:
            return
        if child.state is State.FAILED and child.reason.substate != "needs-reset":
            await self._records.update(child.id, lambda r: on_retry(unchanged(r)))
            self._manager.post(child.id, lc.Retried(Reason("retried", f"Retried by {caller}.")))
            return
        if child.state is State.FAILED:
            raise WrongState(
                f"Device {child.id} needs a reset at the cloud: do it there, then run "
                f"gatewayctl reregister {child.id} {child.id}"
            )
        if child.state is State.PENDING and self._proofs.retry(child.id):
            return
        _demand(child, child.state in _RETRIABLE, "failed or waiting")
        if child.state is State.ADMITTED and (seconds := self._quiet_for(child.id)) > 0:
            raise WrongState(
                f"Device {child.id} has to wait for {seconds:.0f} s more: an earlier request may"
                " still be under way, and a second one would make its secret useless"
            )
        log.info("Device %s is retried by %s.", child.id, caller, extra={"device": child.id})
        self._manager.restart_work(child)

    async def retry_all(self, providers: Collection[str]) -> None:
        """Have the children of these clouds tried again at once that wait, or have failed."""

        def concerned(device: DeviceId) -> bool:
            record = self._records.get(device)
            return bool(record and record.cloud and record.cloud.provider in providers)

        for child in tuple(self._manager.children.values()):
            given_up = child.state is State.FAILED and child.reason.substate != "needs-reset"
            if given_up and concerned(child.id):
                await self._give_up_stale_secret(child)
                self._manager.post(child.id, lc.Retried(FILES_CHANGED))
        self._manager.retry_waiting(concerned)

    async def _give_up_stale_secret(self, child: Child) -> None:
        """Put on record that a failed child is tried again, where that changes the record."""
        record = self._records[child.id]
        if on_retry(record) != record:
            try:
                await self._records.update(child.id, lambda r: on_retry(unchanged(r)))
            except StoreError as error:
                log.warning("Device %s keeps its stale secret: %s.", child.id, error)

    async def reregister(self, device: str, again: str, caller: str) -> None:
        child = self._own(device)
        if again != child.id or device != child.id:
            raise InvalidArgs("Reregister takes the full id, twice")
        self._moves.demand_none(child)
        self._demand_resettable(child)  # before its session is closed
        async with self._manager.halted(child):
            self._demand_resettable(child)
            await self._records.update(child.id, lambda r: unchanged(r).without_any_secret())
            reason = Reason("reregistered", f"Requested by {caller}.")
            self._manager.post(child.id, lc.Reset(reason))

    async def rename(self, device: str, label: str, caller: str) -> None:
        child = self._own(device)
        text = _printable(label)
        if not text:
            raise InvalidArgs("A name has 1 to 200 printable characters")
        if self._records.get(child.id) is not None:
            await self._records.update(child.id, lambda r: replace(unchanged(r), label=text))
        child.label = text
        log.info("Device %s was renamed by %s.", child.id, caller, extra={"device": child.id})
        self._manager.refresh(child)

    async def forget(self, device: str, caller: str) -> None:
        child = self._own(device)
        async with self._manager.halted(child):
            await self._conflicts.forget(child)
            reason = Reason("forgotten", f"Forgotten by {caller}.")
            self._manager.post(child.id, lc.Forgotten(reason))
            if child.present:  # it is still on the LAN, and starts again as a stranger
                self._manager.post(child.id, lc.Seen())

    async def repin(self, device: str, caller: str) -> None:
        child = self._own(device)
        _demand(child, child.state is State.FROZEN, "frozen")
        await self._proofs.repin(child.id)
        reason = Reason("repinned", f"Its new key was accepted by {caller}.")
        self._manager.post(child.id, lc.Admitted(reason))

    async def split(self, device: str, other: str, caller: str) -> None:
        await self._conflicts.split(self._own(device), self._other(other), caller)

    async def merge(self, kept: str, gone: str, caller: str) -> None:
        await self._conflicts.merge(self._own(kept), self._other(gone), caller)

    async def move(
        self, device: str, provider: str, options: Mapping[str, object], caller: str
    ) -> None:
        await self._moves.move(self._own(device), provider, options, caller)

    async def cancel_move(self, device: str, caller: str) -> None:
        await self._moves.cancel(self._own(device), caller)

    async def forget_dormant(self, device: str, provider: str, caller: str) -> None:
        await self._moves.forget_dormant(self._own(device), provider, caller)

    async def list_moves(self, limit: int) -> Sequence[MoveRow]:
        return self._moves.listed(limit)

    async def permit_join(self, seconds: int, options: Mapping[str, object], caller: str) -> None:
        wanted = parse_options(options)
        if wanted.scope.rule not in ("", *(name for name, *_ in self._rules.listed())):
            raise InvalidArgs("No rule has this name")
        self._admission.window.permit(seconds, wanted, caller)

    async def reload(self, caller: str) -> None:
        log.info("A reload was requested by %s.", caller)
        await self._reload()

    async def discover(self, seconds: int, protocols: Sequence[str], caller: str) -> None:
        self._discovery.rescan(seconds, protocols)
        log.info("Discovery for %d s was requested by %s.", seconds, caller)

    async def list_refused(self) -> Sequence[tuple[int, str, str, str, str, str, int]]:
        return self._discovery.refused()

    async def record(self, seconds: int, options: Mapping[str, object], caller: str) -> int:
        most = options.get("max-bytes", 0)
        if set(options) - {"max-bytes"} or not isinstance(most, int):
            raise InvalidArgs("Options are the number max-bytes")
        recording = await self._discovery.record(seconds, most)
        log.info("A recording of the LAN for %d s was requested by %s.", seconds, caller)
        return recording

    async def dump(self, caller: str) -> int:
        log.info("A dump was requested by %s.", caller)
        return await self._dump()

    def resolve(self, device: str) -> DeviceId:
        children = self._manager.children
        if device in children:
            return DeviceId(device)
        found = [c for c in children if len(device) >= _MIN_PREFIX and c.startswith(device)]
        found = found or [c for c in children if self._cloud_id(c) == device]
        if len(found) > 1:
            raise AmbiguousId("Several devices match this id: give more of it")
        if not found:
            raise NoSuchDevice("No such device")
        return found[0]

    def test_admission(self, device: str) -> tuple[str, str, tuple[str, ...]]:
        found = self.resolve(device)
        decision, moved = self._admission.decide(found), self._moves.stands(found)
        reasons = str(decision.reason), *([moved] if moved else []), *decision.trace
        return decision.action.value, decision.rule, reasons

    def list_rules(self) -> tuple[tuple[str, str, str, int], ...]:
        return self._admission.hits()

    def suggest_rule(self, device: str, purpose: str, options: Mapping[str, object]) -> Facts:
        child = self._child(device)
        if purpose not in set(RulePurpose):
            raise InvalidArgs(f"Purpose must be one of {', '.join(RulePurpose)}")
        wanted = RulePurpose(purpose)
        cloud = CloudChoice("", "")
        if wanted is RulePurpose.ADMIT:
            cloud = chosen_cloud(options, self._products)
        try:
            made = self._admission.suggest(child.id, wanted, cloud)
        except CannotSuggest as error:
            raise WrongState(f"Device {child.id}: {error}") from error
        table = made.table
        return {"Name": table.name, "Text": made.text(), "List": table.list, "Entry": made.listed}

    def consequences(self, device: str, command: str) -> Sequence[str]:
        child = self._child(device)
        if command == "Forget":
            return tuple(self._if_forgotten(child))
        if command == "Reject":
            return tuple(self._if_rejected(child))
        if command == "Repin":
            return tuple(self._if_repinned(child))
        verb, _, other = command.partition(" ")
        if verb == "ForgetDormant":
            return tuple(self._moves.consequences(child, other))
        if verb == "Split":
            return tuple(self._conflicts.consequences_of_split(child, self._other(other)))
        if verb == "Merge":
            return tuple(self._conflicts.consequences_of_merger(child, self._other(other)))
        raise InvalidArgs(
            "Command must be Forget, Reject, Repin, Split or Merge, then an id; or ForgetDormant, "
            "then a cloud"
        )

    def _if_forgotten(self, child: Child) -> Iterator[str]:
        record = self._records.get(child.id)
        if record is not None and record.cloud is not None and record.activated_at:
            yield (
                f"The only secret by which cloud {record.cloud.provider} knows it is here, and is "
                "deleted: the cloud may issue another one only after the device is reset there."
            )
        for one in record.moves.dormant if record is not None else ():
            yield f"What it has at cloud {one.provider}, where it is dormant, is deleted, too."
        decision = self._admission.decide(child.id)
        elsewhere = self._admission.elsewhere(decision).code
        if child.present and decision.action is Action.REGISTER and not elsewhere:
            yield f"It is on the LAN, and rule {decision.rule} admits it again at once."

    def _if_repinned(self, child: Child) -> Iterator[str]:
        record = self._records.get(child.id)
        pin = record.pin if record is not None else None
        if pin is None or not pin.refused:
            raise WrongState(f"Device {child.id} has shown no other key")
        yield f"It was admitted with the key {pin.key}, and goes on with {pin.refused}."
        if pin.identity:
            yield f"That it is {pin.identity} counts only if its new certificate says so, too."

    def _if_rejected(self, child: Child) -> Iterator[str]:
        if not child.id.startswith(GATEWAY_PREFIX):
            return
        cloud = child.id.removeprefix(GATEWAY_PREFIX)
        owned = [r.device for r in self._records.all() if r.cloud and r.cloud.provider == cloud]
        children = sum(not device.startswith(GATEWAY_PREFIX) for device in owned)
        yield (
            f"It is the gateway's own name at cloud {cloud}: those of its {children} children "
            "there that are sub-devices go offline, and stay so."
        )

    async def list_decisions(
        self, wanted: Mapping[str, object], limit: int
    ) -> Sequence[tuple[int, int, str, str, str, str, str]]:
        found = await self._decisions.newest(decision_query(wanted), limit or DECISIONS)
        return [(d.number, d.at, d.kind, d.device, d.by, d.origin, d.note) for d in found]

    def _demand_resettable(self, child: Child) -> None:
        fits = self._manager.holds(child) and lc.accepts(child.state, lc.Reset)
        on_record = self._records.get(child.id) is not None
        _demand(child, fits and on_record, "registered or failed")

    def _child(self, device: str) -> Child:
        return self._manager.children[self.resolve(device)]

    def _own(self, device: str) -> Child:
        """Return the child that a command is to change.

        Raises WrongState where another gateway of the site has it: what is decided here would be
        undone by what that one has on record.
        """
        child = self._child(device)
        record = self._records.get(child.id)
        unrecorded = child.reason if child.state is State.ELSEWHERE else NONE
        why = unrecorded if record is None else record.elsewhere
        if self._shared and why.code:
            raise WrongState(f"Device {child.id}: {why}")
        return child

    def _other(self, device: str) -> Child | None:
        """Return the other child that a command names; None where it names none."""
        return self._child(device) if device else None

    def _cloud_id(self, device: DeviceId) -> str:
        record = self._records.get(device)
        cloud: CloudName | None = record.cloud if record else None
        return str(cloud) if cloud else ""


def decision_query(wanted: Mapping[str, object]) -> DecisionQuery:
    """Read the filter of ListDecisions.  Raises InvalidArgs."""
    kinds: Mapping[str, type] = {"device": str, "since": int, "before": int}
    for key, value in wanted.items():
        if key not in kinds:
            raise InvalidArgs(f"Filter must be one of {', '.join(kinds)}")
        if type(value) is not kinds[key] or (isinstance(value, int) and not 0 <= value <= _MOST):
            raise InvalidArgs(f"Filter {key} must be {'a text' if kinds[key] is str else 'a time'}")
    return DecisionQuery(**wanted)  # type: ignore[arg-type]  # each value was checked above


def _demand(child: Child, fits: bool, expected: str) -> None:
    if not fits:
        raise WrongState(f"Device {child.id} is {child.state.shown}, not {expected}")


def _printable(text: str) -> str:
    return without_unprintable(text).strip()[:MAX_TEXT]
