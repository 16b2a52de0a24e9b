"""The site's copy of a child, or the one here: each row of the table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.site.replica.blob import ChildBlob
from gatewayd.site.replica.merge import LocalCopy, Merged, merged
from gatewayd.storage.site_marks import MarkStanding, SiteMark

HERE, THERE = DeviceId("child-here"), DeviceId("child-there")
SERIAL, MAC = Claim("serial", "_x._tcp", "1"), Claim("mac", "l2", "aabbccddeeff")
NOW = 1_000
KNOWN = SiteMark(HERE, 7, 3)


def record(device: DeviceId, stored: int = 0, attempt: int = 0, activated: int = 0) -> Record:
    return Record(
        device, frozenset({SERIAL}), "label", Verdict.ADMITTED, Admission.RULE, "rule", "",
        CloudName("east", "p", "n"), 500, 5, attempt=attempt or stored, stored=stored,
        registered_at=stored, activating=stored, activated_at=activated,
    )  # fmt: skip


def slots(device: DeviceId, **secrets: bytes) -> dict[SecretRef, Secret]:
    """Return slots by numbers: s3=b"x" is attempt 3."""
    return {SecretRef("east", device, int(n[1:])): Secret(s) for n, s in secrets.items()}


def there(serial: int, one: Record | None, **secrets: bytes) -> ChildBlob:
    return ChildBlob(serial, one, slots(THERE, **secrets), 0 if one else 600)


def test_what_was_last_known_here_stays_and_newer_is_written_to_the_site() -> None:
    blob = there(3, record(THERE, 1), s1=b"a")
    here = LocalCopy(HERE, record(HERE, 1), slots(HERE, s1=b"a"), KNOWN)
    assert merged(blob, 7, here, NOW) == Merged()
    newer = replace(here, record=record(HERE, 2), secrets=slots(HERE, s2=b"b"))
    assert merged(blob, 7, newer, NOW) == Merged(publish=True)
    forgotten = replace(here, record=None, secrets={})
    assert merged(blob, 7, forgotten, NOW) == Merged(publish=True)
    assert merged(there(4, None), 7, forgotten, NOW) == Merged()


def test_an_etcd_that_was_put_back_gets_what_is_here() -> None:
    here = LocalCopy(HERE, record(HERE, 2), slots(HERE, s2=b"b"), KNOWN)
    assert merged(there(2, record(THERE, 1), s1=b"a"), 99, here, NOW) == Merged(publish=True)
    assert merged(there(2, None), 99, here, NOW) == Merged(publish=True)


def test_another_write_of_the_site_replaces_what_is_here() -> None:
    blob = there(4, record(THERE, 2, activated=9), s2=b"b")
    for mark in (KNOWN, None, replace(KNOWN, revision=8, standing=MarkStanding.MERGING)):
        here = LocalCopy(HERE, record(HERE, 1), slots(HERE, s1=b"a"), mark)
        outcome = merged(blob, 8, here, NOW)
        assert outcome.record == record(HERE, 2, activated=9)
        assert outcome.put == slots(HERE, s2=b"b")
        assert outcome.delete == tuple(slots(HERE, s1=b""))
        assert not outcome.publish


@pytest.mark.parametrize("stored", [1, 0], ids=["activated", "registered again"])
def test_a_secret_that_was_lost_here_alone_comes_back(stored: int) -> None:
    """The start has found it gone, and a record that was never activated says so."""
    blob = there(3, record(THERE, 1), s1=b"a")
    outcome = merged(blob, 7, LocalCopy(HERE, record(HERE, stored, attempt=1), {}, KNOWN), NOW)
    assert outcome == Merged(record(HERE, 1), slots(HERE, s1=b"a"))
    given_up = record(HERE, 0, attempt=2)
    assert merged(blob, 7, LocalCopy(HERE, given_up, {}, KNOWN), NOW) == Merged(publish=True)


def test_a_replaced_gateway_gets_all_of_a_child() -> None:
    blob = there(4, record(THERE, 2), s2=b"b")
    outcome = merged(blob, 8, LocalCopy(THERE), NOW)
    assert outcome == Merged(record(THERE, 2), slots(THERE, s2=b"b"))


def test_what_another_gateway_had_meanwhile_is_not_forgotten_here() -> None:
    blob = there(3, record(THERE, 2), s2=b"b")
    away = LocalCopy(HERE, None, {}, replace(KNOWN, standing=MarkStanding.AWAY))
    assert merged(blob, 7, away, NOW).record == record(HERE, 2)


def test_claims_of_both_are_united_unless_they_contradict() -> None:
    blob = there(4, record(THERE, 2), s2=b"b")
    ours = replace(record(HERE), claims=frozenset({MAC}), first_seen=2)
    outcome = merged(blob, 8, LocalCopy(HERE, ours), NOW)
    assert outcome.record is not None
    assert outcome.record.claims == {SERIAL, MAC}
    assert outcome.record.first_seen == 2
    assert outcome.publish
    other = replace(ours, claims=frozenset({SERIAL._replace(value="2")}))
    outcome = merged(blob, 8, LocalCopy(HERE, other), NOW)
    assert outcome.record is not None
    assert outcome.record.claims == {SERIAL}


def test_a_secret_that_was_issued_just_before_a_crash_is_not_lost() -> None:
    """The intent was replicated, the secret was not: it is in its slot here alone."""
    blob = there(4, record(THERE, 0, attempt=1))
    here = LocalCopy(HERE, record(HERE, 0, attempt=1), slots(HERE, s1=b"issued"), KNOWN)
    outcome = merged(blob, 8, here, NOW)
    assert outcome.record is not None
    assert outcome.record.stored == 1
    assert not outcome.delete
    assert outcome.publish


def test_a_renewed_secret_that_the_site_has_not_is_a_candidate() -> None:
    blob = there(4, record(THERE, 1, attempt=2, activated=9), s1=b"a")
    here = LocalCopy(HERE, record(HERE, 1), slots(HERE, s1=b"a", s2=b"new"), KNOWN)
    outcome = merged(blob, 8, here, NOW)
    assert outcome.record is not None
    assert (outcome.record.stored, outcome.record.candidate) == (1, 2)
    assert outcome.publish


def test_a_secret_of_an_attempt_is_never_overwritten_by_another() -> None:
    blob = there(4, record(THERE, 1), s1=b"theirs")
    outcome = merged(blob, 8, LocalCopy(HERE, record(HERE, 1), slots(HERE, s1=b"ours")), NOW)
    assert outcome.set_aside == tuple(slots(HERE, s1=b""))
    assert outcome.put == slots(HERE, s1=b"theirs")


def test_a_gateway_that_ran_alone_does_not_lose_its_secret_to_an_intent() -> None:
    blob = there(1, record(THERE, 0, attempt=1))
    here = LocalCopy(HERE, record(HERE, 1), slots(HERE, s1=b"ours"))
    assert merged(blob, 8, here, NOW) == Merged(publish=True)


@pytest.mark.parametrize(("decided_at", "outcome"), [
    (500, Merged(removed=True)), (700, Merged(publish=True)),
])  # fmt: skip
def test_what_the_site_has_forgotten_is_removed_unless_it_is_newer(
    decided_at: int, outcome: Merged
) -> None:
    ours = replace(record(HERE, 1), verdict_at=decided_at)
    assert merged(there(4, None), 8, LocalCopy(HERE, ours), NOW) == outcome
    if outcome.removed:
        assert merged(there(4, None), 8, LocalCopy(HERE, ours, {}, KNOWN), NOW) == outcome


def test_what_is_forgotten_on_both_sides_needs_nothing() -> None:
    assert merged(there(4, None), 8, LocalCopy(HERE), NOW) == Merged()


numbers = st.integers(0, 4)
secrets = st.dictionaries(numbers.map(lambda n: f"s{n + 1}"), st.sampled_from([b"a", b"b"]))


@given(
    stored=numbers, attempt=numbers, theirs=secrets, ours=secrets,
    mark=st.none() | st.builds(SiteMark, st.just(HERE), numbers, numbers,
                               st.sampled_from(MarkStanding)),
    serial=numbers, revision=numbers, has=st.booleans(), activated=st.booleans(),
)  # fmt: skip
def test_a_merge_is_done_once_and_loses_no_secret(  # noqa: PLR0913  # one for each fact
    *, stored: int, attempt: int, theirs: dict[str, bytes], ours: dict[str, bytes],
    mark: SiteMark | None, serial: int, revision: int, has: bool, activated: bool,
) -> None:  # fmt: skip
    blob = there(serial, record(THERE, stored, stored + attempt, int(activated)), **theirs)
    local = LocalCopy(
        HERE, record(HERE, min(stored, 1)) if has else None, slots(HERE, **ours), mark
    )
    outcome = merged(blob, revision, local, NOW)
    left = {ref: one for ref, one in local.secrets.items() if ref not in outcome.delete}
    after = {**left, **outcome.put}
    lost = {ref for ref, one in local.secrets.items() if after.get(ref) != one}
    assert lost <= {*outcome.set_aside, *outcome.delete}
    if outcome.record is not None:
        assert {*slots(HERE, **theirs)} <= {*after}
        again = LocalCopy(HERE, outcome.record, after, SiteMark(HERE, revision, serial))
        second = merged(blob, revision, again, NOW)
        assert second == Merged(publish=outcome.publish)
