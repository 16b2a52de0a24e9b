"""Conflicts about who a device is, and the answers of operators to them: split and merge.

What both devices show identifies none of them once they are split; what one shows identifies the
other once they are merged.  An answer is on record before discovery obeys it, so that the conflict
comes back neither with the next sighting nor after a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping

from gatewayd.admission.controller import AdmissionController, DisputedDevices
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import (
    GATEWAY_PREFIX,
    NO_DEVICE,
    UNDISPUTED,
    Claim,
    DeviceId,
    key_of,
)
from gatewayd.device.reason import Reason
from gatewayd.device.record import RecordStore, Verdict
from gatewayd.errors import WrongState
from gatewayd.manager.manager import Child, DeviceManager

log = logging.getLogger(__name__)

MAX_ANSWERS = 10_000
"""Answers that are kept."""

Answers = Mapping[Claim, DeviceId | None]


class IdentityConflicts:
    """The conflicts of children about their identity, as operators settle them."""

    def __init__(
        self,
        manager: DeviceManager,
        admission: AdmissionController,
        records: RecordStore,
        devices: DisputedDevices,
    ) -> None:
        self._manager, self._admission = manager, admission
        self._records, self._devices = records, devices
        self._turn = asyncio.Lock()  # two that are merged into each other would both be gone
        self._merging: frozenset[DeviceId] = frozenset()
        self._leaving: set[DeviceId] = set()

    async def split(self, child: Child, other: Child | None, caller: str) -> None:
        """Have two children be two; other: None for what one shows at two places.

        Raises WrongState, StoreError.
        """
        async with self._turn:
            answers = self._if_split(child, other)
            await self._admission.settle(answers)
            self._devices.answer(answers)
        log.info("Device %s was split by %s.", child.id, caller, extra={"device": child.id})

    async def merge(self, kept: Child, gone: Child | None, caller: str) -> None:
        """Have one child be another, too; gone: None for what is in question of one.

        Raises WrongState, CloudUnreachable, StoreError.
        """
        async with self._turn:
            ids = frozenset(one.id for one in (kept, gone) if one is not None)
            for device in sorted(ids & self._leaving):
                raise WrongState(f"Device {device} is being forgotten: wait until it is")
            self._merging = ids
            try:
                await self._merge(kept, gone, caller)
            finally:
                self._merging = frozenset()
        log.info("Device %s was merged by %s.", kept.id, caller, extra={"device": kept.id})

    async def _merge(self, kept: Child, gone: Child | None, caller: str) -> None:
        answers = self._if_merged(kept, gone)
        if gone is None:
            await self._admission.settle(answers)
            self._devices.answer(answers)
            return
        async with self._manager.halted(gone):
            answers = self._if_merged(kept, gone)
            await self._admission.settle(answers, gone.id)
            reason = Reason("merged", f"It is the same as {kept.id}, as {caller} has decided.")
            self._manager.post(gone.id, lc.Forgotten(reason))
            self._devices.answer(answers)

    async def forget(self, child: Child) -> None:
        """Forget a child, and the answers that something is its own.

        Raises WrongState, CloudUnreachable, StoreError; then nothing is forgotten.
        """
        if child.id in self._merging:  # both would be gone
            raise WrongState(f"Device {child.id} is being merged: wait until it is")
        self._leaving.add(child.id)
        try:
            own = self._answered_to(child)
            await self._admission.forget(child.id)
        finally:
            self._leaving.discard(child.id)
        self._devices.answer(dict.fromkeys(own))

    def consequences_of_split(self, child: Child, other: Child | None) -> Iterator[str]:
        """Yield what a split would do, a sentence each.  Raises WrongState."""
        answers = self._if_split(child, other)
        nothing = [key for key, whose in answers.items() if whose == NO_DEVICE]
        withdrawn = [key for key, whose in answers.items() if whose is None]
        if nothing:
            yield f"This identifies no device any more: {_listed(nothing)}."
        if withdrawn:
            yield f"This is not its own any more: {_listed(withdrawn)}."
        for one in filter(None, (child, other)):
            own = self._devices.distinctive(one.id, answers)
            known = f"by {_listed(own)}" if own else "only by where it was seen"
            yield f"{one.id} stays, and is known {known}."
        if other is None:
            yield "What else shows it becomes a device of its own, which rules or operators judge."

    def consequences_of_merger(self, kept: Child, gone: Child | None) -> Iterator[str]:
        """Yield what a merger would do, a sentence each.  Raises WrongState."""
        answers = self._if_merged(kept, gone)
        record = self._records.get(kept.id)
        cloud = f", its name {record.cloud} at the cloud" if record and record.cloud else ""
        yield f"{kept.id} keeps its id{cloud}, and its secret."
        if record is not None and record.verdict is not Verdict.ADMITTED:
            yield f"{kept.id} stays {record.verdict}."
        yield f"This identifies it from now on, too: {_listed(answers)}."
        if gone is None:
            return
        lost = self._records.get(gone.id)
        if lost is None:
            yield f"{gone.id} is no device of its own any more."
        else:
            cloud = f", its name {lost.cloud} at the cloud" if lost.cloud else ""
            yield f"{gone.id} is forgotten{cloud}, and its secret here."
            for one in lost.moves.dormant:
                yield f"What it has at cloud {one.provider}, where it is dormant, is deleted, too."

    def _if_split(self, child: Child, other: Child | None) -> Answers:
        """Return the answers that split children.  Raises WrongState."""
        self._demand_two(child, other)
        disputed = self._devices.disputed(child.id, None if other is None else other.id)
        answers: Answers = dict.fromkeys(disputed, NO_DEVICE)
        if other is None and not disputed:
            answers = dict.fromkeys(self._answered_to(child) | self._taken(child))
        if not answers:
            raise WrongState(f"Device {child.id} shows nothing that another shows, too")
        for one in filter(None, (child, other)):
            on_record = self._records.get(one.id) is not None
            if on_record and not self._devices.distinctive(one.id, answers):
                raise WrongState(
                    f"Device {one.id} would be left without an identity: reject the other one, or "
                    "merge them"
                )
        return self._bounded(answers)

    def _if_merged(self, kept: Child, gone: Child | None) -> Answers:
        """Return the answers that merge children.  Raises WrongState."""
        self._demand_two(kept, gone)
        found = self._devices.identity(kept.id, None if gone is None else gone.id)
        if gone is not None:
            if self._records.get(kept.id) is None:
                if self._records.get(gone.id) is not None:
                    raise WrongState(
                        f"Device {gone.id} is on record, and {kept.id} is not: run "
                        f"gatewayctl merge {gone.id} {kept.id}"
                    )
                found |= self._devices.distinctive(kept.id)  # so that its id is the same again
            found |= self._answered_to(gone)
        if not found:
            raise WrongState(f"Nothing identifies what device {kept.id} would be one with")
        return self._bounded(dict.fromkeys(found, kept.id))

    def _answered_to(self, child: Child) -> frozenset[Claim]:
        return frozenset(key for key, whose in self._records.answers.items() if whose == child.id)

    def _taken(self, child: Child) -> frozenset[Claim]:
        """Return what a child in conflict has taken for its own since it is on record.

        Any host can announce what is another's together with what is the child's.
        """
        record, conflict = self._records.get(child.id), self._devices.evidence(child.id).conflict
        if record is None or conflict in UNDISPUTED:
            return frozenset()
        return self._devices.distinctive(child.id, frozenset(map(key_of, record.claims)))

    def _demand_two(self, child: Child, other: Child | None) -> None:
        if other is not None and other.id == child.id:
            raise WrongState("These are one device already: name two")
        for one in filter(None, (child, other)):
            if one.id.startswith(GATEWAY_PREFIX):
                raise WrongState(f"Device {one.id} is the gateway's own name at a cloud")

    def _bounded(self, answers: Answers) -> Answers:
        if len({*self._records.answers, *answers}) > MAX_ANSWERS:
            raise WrongState(
                f"There are {MAX_ANSWERS} answers to conflicts: forget merged devices that are gone"
            )
        return answers


def _listed(keys: Iterable[Claim]) -> str:
    return ", ".join(f"{key.kind} {key.value}" for key in sorted(keys))
