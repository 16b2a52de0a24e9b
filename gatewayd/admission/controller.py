"""Who is let in, by whom and why: policy is asked, and its verdict put on record.

The roll of the children that are in: who has which name at a cloud, and by which rule.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from gatewayd.admission.join_window import JoinWindow
from gatewayd.admission.policy.engine import PolicyContext
from gatewayd.admission.policy.rules import Action, Decision
from gatewayd.cloud.provider import NO_PROVIDER, CloudProvider
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import Claim, DeviceId, Evidence
from gatewayd.device.lifecycle import PostEvent
from gatewayd.device.reason import Reason
from gatewayd.device.record import Admission, CloudName, Record, RecordStore, Verdict
from gatewayd.errors import CloudUnreachable, NoSuchProvider, NotAdmitted, RecordChanged, StoreError
from gatewayd.runtime.clock import Clock


class CloudNameIndex:
    """Counts each child once, by its newest record."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.names: dict[CloudName, DeviceId] = {}
        self.by_rule: Counter[str] = Counter()
        self._counted: dict[DeviceId, tuple[CloudName, str]] = {}
        for record in records:
            self.count(record.device, record)

    def count(self, device: DeviceId, record: Record | None) -> None:
        """Count a child by this record, instead of any that it was counted by."""
        before = self._counted.pop(device, None)
        if before is not None:
            self.by_rule[before[1]] -= 1
            if self.names[before[0]] == device:
                del self.names[before[0]]
        if record is not None and record.cloud is not None:
            self._counted[device] = record.cloud, record.rule
            self.names[record.cloud] = device
            self.by_rule[record.rule] += 1


_VERDICTS: Mapping[Verdict, type[lc.Event]] = {
    Verdict.ADMITTED: lc.Admitted,
    Verdict.REJECTED: lc.Rejected,
    Verdict.RETIRED: lc.Retired,
}
"""What a verdict on record says to the mailbox."""


class DiscoveredDevices(Protocol):
    """What discovery knows of the devices."""

    def evidence(self, device: DeviceId) -> Evidence:
        """Return all that is known of a device."""

    def changed_at(self, device: DeviceId) -> float:
        """Return when what is known last changed, seconds of the event loop's clock."""

    def last_seen(self, device: DeviceId) -> float:
        """Return when it was last seen, seconds of the event loop's clock; 0 for never."""

    def add_known(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        """Pin a device that is on record, with the claims that identify it."""

    def pin(self, device: DeviceId) -> None:
        """Keep a device whatever comes: it is admitted."""

    def unpin(self, device: DeviceId) -> None:
        """Treat a device as any other again."""


class RulesInForce(Protocol):
    """The rules of policy that are in force."""

    def judge(self, device: DeviceId, evidence: Evidence, census: PolicyContext) -> Decision:
        """Return the verdict on a device."""

    def count(self, rule: str) -> None:
        """Count a verdict that was acted upon."""

    def listed(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return name, action, provider and hits of each rule, in order."""


class AdmissionController:
    """Judges what was discovered, and records the verdicts of rules and operators.

    settle: seconds a sighting must stay the same before it is judged.
    """

    def __init__(
        self,
        register: RecordStore,
        known: DiscoveredDevices,
        rules: RulesInForce,
        providers: Mapping[str, CloudProvider],
        settle: float,
        clocks: Clock,
    ) -> None:
        self._register, self._known, self._providers = register, known, providers
        self._rules = rules
        self.window = JoinWindow(clocks)
        self._settle, self._now, self._wall = settle, clocks.now, clocks.wall
        self._roll = CloudNameIndex(register.all())

    async def evaluate(self, device: DeviceId, post: PostEvent) -> None:
        """Wait until the sighting has settled, then let policy decide, unless it is on record."""
        while (wait := self._known.changed_at(device) + self._settle - self._now()) > 0:
            await asyncio.sleep(wait)  # again, as the moment moves on with each change
        record = self._register.get(device)
        if record is not None:
            self._known.pin(device)
            post(_VERDICTS[record.verdict](Reason(record.reason)))
            return
        decision = self.decide(device)
        self._rules.count(decision.rule)
        match decision.action:
            case Action.REGISTER:
                if decision.by_window:
                    self.window.count()
                by = Admission.WINDOW if decision.by_window else Admission.RULE
                await self._admit(device, decision, by)
                post(lc.Admitted(decision.reason))
            case Action.ASK:
                post(lc.Held(decision.reason))
                if decision.cloud and decision.cloud.provider in self._providers:
                    self._providers[decision.cloud.provider].on_pending(decision.cloud)
            case Action.REJECT | Action.IGNORE:
                post(lc.Rejected(decision.reason))

    def decide(self, device: DeviceId) -> Decision:
        """Return what policy says of a device now; what the cloud would not take is held."""
        decision = self.judge(device, self._known.evidence(device))
        cloud = decision.cloud if decision.action is Action.REGISTER else None
        if cloud is not None and (objection := self._objection(cloud)) is not None:
            return replace(decision, action=Action.ASK, reason=objection, by_window=False)
        return decision

    def judge(self, device: DeviceId, evidence: Evidence) -> Decision:
        """Return what the rules alone say of a device, by this evidence."""
        census = PolicyContext(self._roll.names, self._roll.by_rule, self.window.current)
        return self._rules.judge(device, evidence, census)

    def owner(self, name: CloudName) -> DeviceId | None:
        """Return the child that has this name at a cloud."""
        return self._roll.names.get(name)

    async def approve(
        self, device: DeviceId, provider: str, caller: str, by: Admission = Admission.OPERATOR
    ) -> Reason:
        """Put somebody's yes on record, and return the reason to show.

        provider: "" takes the rule's.  Raises NoSuchProvider, NotAdmitted, StoreError.
        """
        if provider and provider not in self._providers:
            raise NoSuchProvider(f"No cloud {provider!r} is configured")
        decision = self.decide(device)
        cloud = self._cloud_of(device) or decision.cloud
        if cloud is None:
            raise NotAdmitted(
                f"Nothing says to which product {device} belongs: write a rule that names it"
            )
        if provider not in ("", cloud.provider):
            raise NotAdmitted(f"Its rule assigns {device} to the cloud {cloud.provider!r}")
        if (objection := self._objection(cloud)) is not None:
            raise NotAdmitted(str(objection))
        if self._roll.names.get(cloud, device) != device:
            raise NotAdmitted(f"Another child has the cloud name of {device} already")
        await self._admit(device, replace(decision, cloud=cloud), by)
        return Reason("approved", f"Approved by {caller}.")

    async def reject(self, device: DeviceId, text: str, caller: str) -> Reason:
        """Put an operator's no on record, and return the reason to show.  Raises StoreError."""
        reason = Reason(
            "rejected-by-operator", f"Rejected by {caller}{': ' if text else ''}{text}."
        )
        fresh = self._new_record(device, "", None, Admission.OPERATOR)

        def say_no(record: Record | None) -> Record:
            return replace(
                record or fresh,
                verdict=Verdict.REJECTED,
                admission=Admission.OPERATOR,
                reason=reason.code,
                verdict_at=fresh.verdict_at,
            )

        self._roll.count(device, await self._register.update(device, say_no))
        self._known.pin(device)
        return reason

    async def forget(self, device: DeviceId) -> None:
        """Remove a child at the cloud, its record and its secrets.

        Raises CloudUnreachable, StoreError; then it is not forgotten.
        """
        if (record := self._register.get(device)) is not None:
            await self._loosen(record)
        await self._register.forget(device)
        self._roll.count(device, None)
        self._known.unpin(device)

    async def configure(self, device: DeviceId, cloud: CloudName) -> None:
        """Put on record a name of the gateway's own.  Raises StoreError."""
        record = self._register.get(device)
        if record is None or record.cloud != cloud:
            own = self._new_record(device, "", cloud, Admission.CONFIGURATION)
            own = replace(own, label="this gateway", first_seen=self._wall())
            self._roll.count(device, await self._register.update(device, lambda _: own))
        self._known.pin(device)

    async def _loosen(self, record: Record) -> None:
        provider = self._providers.get(record.cloud.provider) if record.cloud else None
        if provider is None or record.cloud is None or not record.registered_at:
            return
        if (why := await provider.unbind(record.cloud)) is not None:
            raise CloudUnreachable(f"{record.device} is still bound to this gateway: {why}")

    async def _admit(self, device: DeviceId, decision: Decision, by: Admission) -> None:
        fresh = self._new_record(device, decision.rule, decision.cloud, by)

        def say_yes(record: Record | None) -> Record:
            if by in (Admission.RULE, Admission.WINDOW) and record is not None:
                raise RecordChanged("an operator was faster than the rules")
            before = record or fresh
            return replace(
                before,
                claims=fresh.claims or before.claims,
                verdict=Verdict.ADMITTED,
                admission=by,
                rule=decision.rule,
                cloud=before.cloud or decision.cloud,
                reason=decision.reason.code,
                verdict_at=fresh.verdict_at,
            )

        # counted before the disk is waited for, so that no other child takes the name meanwhile
        self._roll.count(device, say_yes(self._register.get(device)))
        try:
            self._roll.count(device, await self._register.update(device, say_yes))
        except StoreError:
            self._roll.count(device, self._register.get(device))
            raise
        self._known.pin(device)

    def _new_record(
        self, device: DeviceId, rule: str, cloud: CloudName | None, by: Admission
    ) -> Record:
        evidence, now = self._known.evidence(device), self._wall()
        known_for = self._now() - self._known.changed_at(device)
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

    def _objection(self, cloud: CloudName) -> Reason | None:
        provider = self._providers.get(cloud.provider)
        return NO_PROVIDER if provider is None else provider.check_name(cloud)

    def _cloud_of(self, device: DeviceId) -> CloudName | None:
        record = self._register.get(device)
        return record.cloud if record else None
