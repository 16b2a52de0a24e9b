"""A child among three gateways that die at any step: what etcd has is at each later owner."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.site.replica.blob import ChildBlob
from gatewayd.site.replica.merge import LocalCopy, Merged, merged
from gatewayd.storage.site_marks import MarkStanding, SiteMark

GATEWAYS = st.integers(0, 2)


@dataclass
class Copy:
    """What a gateway has.  has_more: whether it has made something durable that it never wrote."""

    device: DeviceId
    record: Record | None = None
    secrets: dict[SecretRef, Secret] = field(default_factory=dict)
    mark: SiteMark | None = None
    has_more: bool = False

    def local(self) -> LocalCopy:
        return LocalCopy(self.device, self.record, self.secrets, self.mark)

    def apply(self, outcome: Merged) -> None:
        if outcome.removed:
            self.record, self.secrets = None, {}
        if outcome.record is not None:
            self.record = outcome.record
            for ref in (*outcome.set_aside, *outcome.delete):
                self.secrets.pop(ref, None)
            self.secrets |= outcome.put


class Child(RuleBasedStateMachine):
    """One child, three gateways of which at most one has its shard, and what etcd has."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = [Copy(DeviceId(f"child-{n}")) for n in range(3)]
        self.owner: int | None = None
        self.blob: ChildBlob | None = None
        self.revision, self.issued, self.clock = 0, count(1), count(1)
        self.written: Record | None = None
        self.in_use = b""

    # The gateway that has the shard works on the child; it may die before or after etcd has that.

    def _write(self, dies: str) -> None:
        assert self.owner is not None
        own = self.copies[self.owner]
        if dies == "before":
            own.has_more, self.owner = True, None
            return
        serial = (own.mark.serial if own.mark else 0) + 1
        gone = ChildBlob(serial, None, {}, next(self.clock))
        self.blob = ChildBlob(serial, own.record, dict(own.secrets)) if own.record else gone
        self.revision += 1
        for other in self.copies:
            other.has_more = False  # it gives way to this write
        self.written, self.in_use = own.record, b""
        if own.record is not None and own.record.stored:
            self.in_use = own.secrets[own.record.slot(own.record.stored)].reveal()
        if dies == "after":
            self.owner = None
        else:
            own.mark = SiteMark(own.device, self.revision, serial)

    dies = st.sampled_from(["", "", "", "before", "after"])

    @precondition(lambda self: self.owner is not None)
    @rule(dies=dies)
    def decide(self, dies: str) -> None:
        """Admit the child, or ask its cloud for a secret, store it, use it, log in, renew it."""
        own = self.copies[self.owner or 0]
        record = own.record
        if record is None:
            claims = frozenset({Claim("serial", f"_{own.device}", "1")})
            own.record = Record(
                own.device, claims, "", Verdict.ADMITTED, Admission.RULE, "", "",
                CloudName("east", "p", "n"), next(self.clock), 1,
            )  # fmt: skip
        elif record.attempt == record.stored:
            own.record = record.with_candidate(1) if record.activated_at else record.with_intent(1)
        elif record.slot(record.attempt) not in own.secrets:
            own.secrets[record.slot(record.attempt)] = Secret(b"%d" % next(self.issued))
        elif record.candidate:
            own.record = record.with_candidate_proven(1)
        else:
            own.record = replace(record.with_secret(record.attempt, 1), activated_at=1)
        self._write(dies)

    @precondition(lambda self: self.owner is not None)
    @rule(dies=dies)
    def clean(self, dies: str) -> None:
        """Delete secrets that a newer one has replaced."""
        own = self.copies[self.owner or 0]
        if own.record is not None and own.record.activated_at:
            own.secrets = {r: s for r, s in own.secrets.items() if r.attempt >= own.record.stored}
        self._write(dies)

    @precondition(lambda self: self.owner is not None)
    @rule(dies=dies)
    def forget(self, dies: str) -> None:
        """Forget the child, as an operator wants."""
        own = self.copies[self.owner or 0]
        if own.record is not None:
            own.record, own.secrets = None, {}
            self._write(dies)

    @rule(gateway=GATEWAYS, dies=dies)
    def gain(self, gateway: int, dies: str) -> None:
        """Another gateway, or the same one, gains the shard, and may die while it merges."""
        if self.owner is not None and self.owner != gateway and self.copies[self.owner].mark:
            former = self.copies[self.owner]
            assert former.mark is not None
            former.mark = replace(former.mark, standing=MarkStanding.AWAY)
        self.owner, own, publish = gateway, self.copies[gateway], True
        if self.blob is not None:
            outcome = merged(self.blob, self.revision, own.local(), next(self.clock))
            publish = outcome.publish
            if outcome.record is not None or outcome.removed:
                own.mark = SiteMark(own.device, 0, self.blob.serial, MarkStanding.MERGING)
            before = {*own.secrets}
            own.apply(outcome)
            self._compare(own)
            if (now := own.record) is not None:  # what may have been issued just before it died
                assert {ref for ref in before if ref.attempt > now.stored} <= own.secrets.keys()
            if dies == "before":
                self.owner = None
                return
            serial = max(own.mark.serial if own.mark else 0, self.blob.serial)
            own.mark = SiteMark(own.device, self.revision, serial)
        if publish and (own.record is not None or self.blob is not None):
            self._write("after" if dies == "after" else "")

    # What holds whenever a gateway has the shard.

    @invariant()
    def what_etcd_has_is_at_the_owner(self) -> None:
        if self.owner is not None:
            self._compare(self.copies[self.owner])

    def _compare(self, own: Copy) -> None:
        """Compare what a gateway has with what etcd has, unless it may have more."""
        here, known = own.record, self.written
        if own.has_more:
            return
        assert (here is None) is (known is None)
        if here is not None and known is not None:
            assert here.attempt >= known.attempt
            assert here.stored >= known.stored
            if here.stored == known.stored and self.in_use:
                assert own.secrets[here.slot(here.stored)].reveal() == self.in_use

    @invariant()
    def the_pointer_leads_to_a_secret(self) -> None:
        if self.owner is not None and (own := self.copies[self.owner]).record is not None:
            assert own.record is not None
            stored = own.record.stored
            assert not stored or own.record.slot(stored) in own.secrets


TestChild = Child.TestCase
TestChild.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
