"""Admission: rules, operators and clouds decide on a device, and the decision is recorded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol, TypeAlias

from gatewayd.admission.join_window import JoinWindow
from gatewayd.admission.ownership import ALONE, Ownership, why_elsewhere
from gatewayd.admission.policy.engine import PolicyContext, WindowScope
from gatewayd.admission.policy.rules import Action, Decision
from gatewayd.admission.policy.suggestion import CloudChoice, RulePurpose, RuleSuggestion
from gatewayd.cloud.provider import NO_PROVIDER, CloudProvider, SupportsDeviceCa
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import Claim, DeviceId, Evidence
from gatewayd.device.lifecycle import PostEvent
from gatewayd.device.proof import Pin, PinIndex
from gatewayd.device.reason import NONE, Reason, addressed
from gatewayd.device.record import Admission, Change, CloudName, Record, RecordStore, Verdict
from gatewayd.errors import CloudUnreachable, NoSuchProvider, NotAdmitted, RecordChanged, StoreError
from gatewayd.runtime.clock import Clock


class CloudNameIndex:
    """An index of the admitted children by each of their cloud names, with their number by rule.

    It has each child once, by its newest record.
    pins: the keys that are pinned to them.
    """

    def __init__(self, records: Iterable[Record], pins: PinIndex) -> None:
        self._pins, self._pinned = pins, frozenset[DeviceId]()
        self.names: dict[CloudName, DeviceId] = {}
        self.by_rule: Counter[str] = Counter()
        self._indexed: dict[DeviceId, Record] = {}
        for record in records:
            self.update(record.device, record)

    def update(self, device: DeviceId, record: Record | None) -> None:
        """Index a child by this record, in place of any other; None removes it."""
        pin = record.pin if record is not None else None
        if pin is not None or device in self._pinned:  # few have one
            self._pins.update(device, pin)
            self._pinned = self._pinned - {device} if pin is None else self._pinned | {device}
        before = self._indexed.pop(device, None)
        if before is not None:
            self.by_rule[before.rule] -= 1
            for name in before.names:
                if self.names[name] == device:
                    del self.names[name]
        if record is not None and record.cloud is not None:
            self._indexed[device] = record
            self.names.update(dict.fromkeys(record.names, device))
            self.by_rule[record.rule] += 1


_VERDICTS: Mapping[Verdict, type[lc.Event]] = {
    Verdict.ADMITTED: lc.Admitted,
    Verdict.REJECTED: lc.Rejected,
    Verdict.RETIRED: lc.Retired,
}
"""The event of a recorded verdict."""


def _event_of(record: Record) -> lc.Event:
    if record.verdict is Verdict.ADMITTED and record.elsewhere.code:
        return lc.OwnedElsewhere(record.elsewhere)
    return _VERDICTS[record.verdict](record.why)


class DiscoveredDevices(Protocol):
    """The devices that discovery knows."""

    def evidence(self, device: DeviceId) -> Evidence:
        """Return all that is known of a device."""

    def changed_at(self, device: DeviceId) -> float:
        """Return when what is known last changed, seconds of the event loop's clock."""

    def last_seen(self, device: DeviceId) -> float:
        """Return when it was last seen, seconds of the event loop's clock; 0 for never."""

    def add_known(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        """Pin a device that is on record, with the claims that identify it."""

    def pin(self, device: DeviceId) -> None:
        """Keep a device in the table, as it is on record."""

    def unpin(self, device: DeviceId) -> None:
        """Let a device leave the table again."""


class DeviceProofs(Protocol):
    """What devices prove with keys of their own."""

    async def make(self, device: DeviceId, name: str) -> None:
        """Have a device prove its key, by the table [proof.NAME], before a decision on it."""

    def try_later(self, device: DeviceId, name: str) -> float:
        """Have a device evaluated again that is held for its proof.

        Returns when, seconds of the event loop's clock; 0 where it is not.
        """

    def pin(self, device: DeviceId, name: str) -> Pin | None:
        """Return the key to pin to a device that is admitted by a rule with this proof."""


class DisputedDevices(DiscoveredDevices, Protocol):
    """The devices that discovery knows, and what identifies them: each by its key (`key_of`)."""

    def answer(self, answers: Mapping[Claim, DeviceId | None]) -> None:
        """Obey an operator who says whose claims are.

        NO_DEVICE: they identify none.  None: the answer of before counts no longer.
        """

    def disputed(self, device: DeviceId, other: DeviceId | None) -> frozenset[Claim]:
        """Return what two devices both show; or one at two places, where the other is None."""

    def identity(self, device: DeviceId, other: DeviceId | None) -> frozenset[Claim]:
        """Return what a device would have that is one with another.

        other: None for the MACs behind which the device is in question, and for what it shows that
        identifies none.
        """

    def distinctive(self, device: DeviceId, without: Collection[Claim] = ()) -> frozenset[Claim]:
        """Return what identifies a device and no other, except some."""


class TurnReservations(Protocol):
    """The turns of children at the clouds."""

    def reserve(self, device: DeviceId, name: CloudName) -> bool:
        """Whether a new child has its turn at once; it is kept for a moment."""

    def begun(self, record: Record) -> None:
        """Note that the intent of a new child is on record; nothing was requested yet."""


class RulesInForce(Protocol):
    """The rules that are in force.  version: another one after each change of them."""

    @property
    def version(self) -> int: ...

    def judge(self, device: DeviceId, evidence: Evidence, context: PolicyContext) -> Decision:
        """Return the decision on a device."""

    def hands_over(self, rule: str) -> bool:
        """Whether the children of a rule, which may be gone, have holders."""

    def proof_of(self, rule: str) -> str:
        """Return the proof that a rule names; "" for none, or where the rule may be gone."""

    def count(self, rule: str) -> None:
        """Count a decision that is not recorded.  rule: its name; "" counts none."""

    def listed(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return name, action, provider and counted decisions of each rule, in order."""

    def suggest(
        self, device: DeviceId, evidence: Evidence, purpose: RulePurpose, cloud: CloudChoice
    ) -> RuleSuggestion:
        """Return a rule that would admit a device, or ignore it.  Raises CannotSuggest."""


PROOF_PREFIX = "proof-"
"""How the codes of reasons begin for which a device is held until it has proven its key."""

PolicyVersion: TypeAlias = tuple[int, WindowScope | None]
"""The version of the rules, and what the join window covers."""


class AdmissionController:
    """A controller that decides on discovered devices, and records decisions.

    Where a new child would be registered at once, the intent is recorded with the decision.
    settle: seconds for which the evidence must stay the same before it is judged.
    ownership: which children are this gateway's, of all of its site.

    move_together: whether two names are always one gateway's: those of one shard of a site.
    """

    def __init__(  # noqa: PLR0913  # ruff counts keyword-only ones, too, which cannot be confused
        self,
        records: RecordStore,
        discovered: DiscoveredDevices,
        rules: RulesInForce,
        providers: Mapping[str, CloudProvider],
        *,
        turns: TurnReservations,
        settle: float,
        clock: Clock,
        pins: PinIndex,
        proofs: DeviceProofs | None = None,
        ownership: Ownership = ALONE,
    ) -> None:
        self._records, self._discovered, self._providers = records, discovered, providers
        self._rules, self._turns = rules, turns
        self.window = JoinWindow(clock)
        self._settle, self._now, self._wall, self._clock = settle, clock.now, clock.stamp, clock
        self._index = CloudNameIndex(records.all(), pins)
        self._proofs, self._ownership = proofs, ownership
        self.move_together: Callable[[CloudName, CloudName], bool] = lambda _now, _to: True

    async def evaluate(self, device: DeviceId, post: PostEvent) -> None:
        """Wait until the evidence has settled, then decide by the rules, unless it is on record.

        Nothing is admitted before the clock is set.
        """
        while (wait := self._discovered.changed_at(device) + self._settle - self._now()) > 0:
            await asyncio.sleep(wait)  # again, as each change postpones it
        record = self._records.get(device)
        if record is not None:
            self._discovered.pin(device)
            post(_event_of(record))
            return
        decision, until = await self._decide_by_proof(device)
        if (elsewhere := self.elsewhere(decision)).code:
            post(lc.OwnedElsewhere(elsewhere))
        elif decision.action is Action.REGISTER and not self._clock.is_set():
            await self._clock.wait_until_set()
            await self.evaluate(device, post)
        else:
            await self._settle_on(device, decision, until, post)

    async def _settle_on(
        self, device: DeviceId, decision: Decision, until: float, post: PostEvent
    ) -> None:
        """Record a decision where it is to be, and post it.  until: as of `_decide_by_proof`."""
        if decision.action is not Action.REGISTER:  # those are counted by their records
            self._rules.count(decision.rule)
        match decision.action:
            case Action.REGISTER:
                if decision.by_window:
                    self.window.count()
                by = Admission.WINDOW if decision.by_window else Admission.RULE
                await self._admit(device, decision, by)
                post(lc.Admitted(decision.reason))
            case Action.ASK:
                post(lc.Held(decision.reason, until))
                if decision.cloud and decision.cloud.provider in self._providers:
                    self._providers[decision.cloud.provider].on_pending(decision.cloud)
            case Action.REJECT | Action.IGNORE:
                post(lc.Rejected(decision.reason))

    async def _decide_by_proof(self, device: DeviceId) -> tuple[Decision, float]:
        """Return the decision on a device, once it was asked for the proof that its rule names.

        With it, when that is tried again, seconds of the event loop's clock; 0 where it is not.
        Certificates are judged by a clock that is set.  Another gateway's device is asked nothing.
        """
        decision = self.decide(device)
        if not decision.proof or self._proofs is None or self.elsewhere(decision).code:
            return decision, 0.0
        await self._clock.wait_until_set()
        await self._proofs.make(device, decision.proof)
        decided = self.decide(device)
        waits = decided.action is Action.ASK and decided.reason.code.startswith(PROOF_PREFIX)
        return decided, self._proofs.try_later(device, decided.proof) if waits else 0.0

    def decide(self, device: DeviceId) -> Decision:
        """Return the decision on a device now: ask, where the cloud would not accept the name."""
        decision = self.judge(device, self._discovered.evidence(device))
        cloud = decision.cloud if decision.action is Action.REGISTER else None
        if cloud is not None and (objection := self._check_name(cloud)) is not None:
            return replace(decision, action=Action.ASK, reason=objection, by_window=False)
        return decision

    def judge(self, device: DeviceId, evidence: Evidence) -> Decision:
        """Return the decision of the rules alone on a device, by this evidence."""
        context = PolicyContext(self._index.names, self._index.by_rule, self.window.current)
        return self._rules.judge(device, evidence, context)

    def suggest(self, device: DeviceId, purpose: RulePurpose, cloud: CloudChoice) -> RuleSuggestion:
        """Return a rule that would admit a device, or ignore it.  Raises CannotSuggest."""
        return self._rules.suggest(device, self._discovered.evidence(device), purpose, cloud)

    def hits(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return name, action, provider and hits of each rule: children on record, and the rest."""
        by_rule = self._index.by_rule
        return tuple((n, a, p, hits + by_rule[n]) for n, a, p, hits in self._rules.listed())

    @property
    def version(self) -> PolicyVersion:
        """What a decision depends on, besides the device and its siblings."""
        return self._rules.version, self.window.current

    def owner(self, name: CloudName) -> DeviceId | None:
        """Return the child that has this name at a cloud."""
        return self._index.names.get(name)

    async def approve(
        self, device: DeviceId, provider: str, caller: str, by: Admission = Admission.OPERATOR
    ) -> Reason:
        """Record an approval, and return the reason to show.

        provider: "" for that of the rule.  Raises NoSuchProvider, NotAdmitted, StoreError.
        """
        if provider and provider not in self._providers:
            raise NoSuchProvider(f"No cloud {provider!r} is configured")
        decision = self.decide(device)
        cloud = self._cloud_of(device) or decision.cloud
        if cloud is None:
            raise NotAdmitted(
                f"No rule says to which product {device} belongs: write a rule that names it"
            )
        if provider not in ("", cloud.provider):
            raise NotAdmitted(f"Its rule assigns {device} to cloud {cloud.provider!r}")
        if (elsewhere := why_elsewhere(self._ownership, device, cloud)).code:
            raise NotAdmitted(str(elsewhere))
        if (objection := self._check_name(cloud)) is not None:
            raise NotAdmitted(str(objection))
        if self._index.names.get(cloud, device) != device:
            raise NotAdmitted(f"Another child already has the cloud name of {device}")
        await self._admit(device, replace(decision, cloud=cloud), by)
        return Reason("approved", f"Approved by {caller}.")

    async def reject(self, device: DeviceId, text: str, caller: str) -> Reason:
        """Record a rejection, and return the reason to show.  Raises StoreError."""
        reason = Reason(
            "rejected-by-operator", f"Rejected by {caller}{': ' if text else ''}{text}."
        )
        fresh = self._new_record(device, "", None, Admission.OPERATOR)

        def rejected(record: Record | None) -> Record:
            kept = replace(record or fresh, admission=Admission.OPERATOR).without_move()
            return kept.with_verdict(Verdict.REJECTED, reason, fresh.verdict_at)

        self._index.update(device, await self._records.update(device, rejected))
        self._discovered.pin(device)
        return reason

    async def forget(self, device: DeviceId) -> None:
        """Unbind a child from the cloud, and delete its record and its secrets.

        Raises CloudUnreachable, StoreError; then nothing is forgotten.
        """
        if (record := self._records.get(device)) is not None:
            await self._unbind(record)
        await self._records.forget(device)
        self._index.update(device, None)
        self._discovered.unpin(device)
        await self._drop_given(record)

    async def settle(
        self, answers: Mapping[Claim, DeviceId | None], gone: DeviceId | None = None
    ) -> None:
        """Record whose claims are, by an operator's answer.

        gone: a device that is another, and that is forgotten with it.
        Raises CloudUnreachable, StoreError; then nothing has changed.
        """
        record = self._records.get(gone) if gone is not None else None
        if record is not None:
            await self._unbind(record)
        await self._records.settle(answers, gone)
        if gone is not None:
            self._index.update(gone, None)
            self._discovered.unpin(gone)
            await self._drop_given(record)

    async def check_move(self, device: DeviceId, to: CloudName) -> None:
        """Raise NotAdmitted where a cloud would not accept a child by this name now.

        Asks the cloud nothing.
        """
        provider = self._providers.get(to.provider)
        if provider is None:
            raise NoSuchProvider(f"No cloud {to.provider!r} is configured")
        self._demand_own(device, to)
        now = self._cloud_of(device)
        if now is not None and not self.move_together(now, to):
            raise NotAdmitted(
                f"{to} is in another shard of the site than {now}, which another gateway may have, "
                "so that it cannot move as it is. Have it registered there as a new one: name "
                f"cloud {to.provider} and product {to.product} in its rule on all gateways; on "
                f"each, run gatewayctl reload; then, on this one, run gatewayctl forget {device}. "
                "See several-gateways.md"
            )
        if (elsewhere := self._ownership.elsewhere(to)).code:
            raise NotAdmitted(f"{to} would be another gateway's: {elsewhere}")
        objection = provider.check_name(to) or await provider.check_ready(to)
        if objection is not None:
            why = addressed(objection, device, to.provider)
            raise NotAdmitted(f"Cloud {to.provider} would not accept {to}: {why}")

    async def move(self, device: DeviceId, change: Change) -> Record:
        """Record what an operator decides about the moves of a child.

        Its names are taken before that is durable, so that no other child gets one meanwhile.
        Raises NotAdmitted, StoreError.
        """
        planned = change(self._records.get(device))
        for name in planned.names:
            self._demand_own(device, name)
        self._index.update(device, planned)
        try:
            record = await self._records.update(device, change)
        except StoreError:
            self._index.update(device, self._records.get(device))
            raise
        self._index.update(device, record)
        return record

    async def leave(self, device: DeviceId, left: CloudName, change: Change) -> None:
        """Unbind a child from a cloud where it is dormant, and record that.

        Raises CloudUnreachable, StoreError; then nothing is forgotten.
        """
        await self._unbind_at(device, left)
        await self.move(device, change)
        await self._drop_given_to(left)

    async def configure(self, device: DeviceId, cloud: CloudName) -> None:
        """Record a name of the gateway itself.  Raises StoreError."""
        record = self._records.get(device)
        if record is None or record.cloud != cloud:
            own = self._new_record(device, "", cloud, Admission.CONFIGURATION)
            own = replace(own, label="this gateway", first_seen=self._wall())
            self._index.update(device, await self._records.update(device, lambda _: own))
        self._discovered.pin(device)

    def adopt(self, record: Record) -> None:
        """Know a child by a record that another gateway of the site has written."""
        self._index.update(record.device, record)
        self._discovered.add_known(record.device, record.claims)

    def drop(self, device: DeviceId) -> None:
        """Know a child no more that was forgotten at another gateway of the site."""
        self._index.update(device, None)
        self._discovered.unpin(device)

    async def _unbind(self, record: Record) -> None:
        """Unbind a child from its clouds, unless another gateway may have bound it by now."""
        if record.elsewhere.code:
            return
        for number, one in enumerate(record.generations):
            if one.registered_at or (number and one.may_be_known):
                await self._unbind_at(record.device, record.name_at(one))

    async def _unbind_at(self, device: DeviceId, name: CloudName) -> None:
        provider = self._providers.get(name.provider)
        if provider is not None and (why := await provider.unbind(name)) is not None:
            raise CloudUnreachable(f"{device} is still bound to this gateway: {why}")

    async def _drop_given(self, record: Record | None) -> None:
        for name in record.names if record is not None else ():
            await self._drop_given_to(name)

    async def _drop_given_to(self, name: CloudName) -> None:
        """Remove what was imported for a child that is gone, whether it was registered or not."""
        provider = self._providers.get(name.provider)
        if isinstance(provider, SupportsDeviceCa) and provider.issuer is not None:
            await provider.issuer.authority.forget_given(name)

    async def _admit(self, device: DeviceId, decision: Decision, by: Admission) -> None:
        fresh = self._new_record(device, decision.rule, decision.cloud, by)
        at_once = decision.cloud is not None and self._turns.reserve(device, decision.cloud)
        pin = self._proofs.pin(device, decision.proof) if self._proofs is not None else None

        def admitted(record: Record | None) -> Record:
            if by in (Admission.RULE, Admission.WINDOW) and record is not None:
                raise RecordChanged("an operator decided before the rules did")
            before = record or fresh
            kept = before.pin and replace(before.pin, refused="")
            changed = replace(
                before,
                claims=fresh.claims or before.claims,
                admission=by,
                rule=decision.rule,
                cloud=before.cloud or decision.cloud,
                pin=kept or pin,
            ).with_verdict(Verdict.ADMITTED, Reason(decision.reason.code), fresh.verdict_at)
            begins = at_once and not before.attempt
            return changed.with_intent(fresh.verdict_at) if begins else changed

        # indexed before the record is durable, so that no other child takes the name meanwhile
        self._index.update(device, admitted(self._records.get(device)))
        try:
            record = await self._records.update(device, admitted)
        except StoreError:
            self._index.update(device, self._records.get(device))
            raise
        self._index.update(device, record)
        self._discovered.pin(device)
        if at_once and record.attempted_at == fresh.verdict_at:
            self._turns.begun(record)

    def _new_record(
        self, device: DeviceId, rule: str, cloud: CloudName | None, by: Admission
    ) -> Record:
        evidence, now = self._discovered.evidence(device), self._wall()
        known_for = self._now() - self._discovered.changed_at(device)
        return Record(
            device=device,
            claims=evidence.claims,
            label=evidence.label,
            verdict=Verdict.ADMITTED,
            admission=by,
            rule=rule,
            reason="",
            cloud=cloud,
            verdict_at=now,
            first_seen=now - int(known_for * 1e6),
        )

    def _demand_own(self, device: DeviceId, name: CloudName) -> None:
        """Raise NotAdmitted where another child has a name."""
        if self._index.names.get(name, device) != device:
            raise NotAdmitted(f"Another child already has the name {name} at cloud {name.provider}")

    def elsewhere(self, decision: Decision) -> Reason:
        """Return why a device that is to be registered, or asked about, is another gateway's."""
        if self._ownership is ALONE or decision.cloud is None:
            return NONE
        if decision.action not in (Action.REGISTER, Action.ASK):
            return NONE
        return self._ownership.elsewhere(decision.cloud)

    def _check_name(self, cloud: CloudName) -> Reason | None:
        provider = self._providers.get(cloud.provider)
        return NO_PROVIDER if provider is None else provider.check_name(cloud)

    def _cloud_of(self, device: DeviceId) -> CloudName | None:
        record = self._records.get(device)
        return record.cloud if record else None
