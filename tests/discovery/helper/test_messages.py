"""The messages between gatewayd and its discovery helper, and what the helper may not say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim, Trust
from gatewayd.device.secret import Secret
from gatewayd.discovery.diagnosis.recorder import MAX_DATA, RecordedEvent
from gatewayd.discovery.diagnosis.refusals import Refusal
from gatewayd.discovery.discoverer import LONGEST, SHORTEST, Interest, Loss, LossReason, Sighting
from gatewayd.discovery.helper.messages import (
    MAX_COUNTERS,
    MAX_REFUSALS,
    MAX_TO_GATEWAYD,
    Answer,
    DiscovererSpec,
    HelperHealth,
    KnownAddresses,
    LogLevel,
    MalformedMessage,
    RecordingRequest,
    RefusalReport,
    Rescan,
    Rules,
    Start,
    ToGatewayd,
    ToHelper,
    Verify,
    decode_to_gatewayd,
    decode_to_helper,
    encode_to_gatewayd,
    encode_to_helper,
)
from gatewayd.discovery.name_rules import NameRule

NOW = 100_000.0
KINDS = {"mdns": "mdns", "meters": "devicefile"}
SEEN = Sighting(
    source="mdns/lan0",
    key="_meter._tcp|th-20 0001a7",
    at=NOW - 5,
    valid_for=120.0,
    interface="lan0",
    addresses=("10.0.0.7", "fe80::1"),
    port=8080,
    claims=frozenset({Claim("serial", "_meter._tcp", "th20-7"), Claim("mac", "m", "000000000002")}),
    attributes={"source": "mdns", "service": "_meter._tcp", "txt.model": "TH-20 ü"},
    label="TH-20 0001A7",
)  # fmt: skip
REFUSED = Refusal(NOW - 1, "mdns", "lan0", "10.0.0.9", r"Lamp\x00", "unresolved")
LOST = Loss("mdns/lan0", SEEN.key, NOW - 1, LossReason.GOODBYE)


def read(fields: Mapping[str, Any]) -> ToGatewayd:
    return decode_to_gatewayd(json.dumps(fields).encode(), KINDS, NOW)


def sighting(**changes: object) -> dict[str, Any]:
    """The message of SEEN, with changes."""
    return {**json.loads(encode_to_gatewayd(SEEN)), **changes}


@pytest.mark.parametrize(
    "message",
    [
        SEEN,
        replace(SEEN, source="meters", interface="", addresses=(), port=None, claims=frozenset(),
                attributes={"source": "devicefile"}),
        replace(SEEN, is_behind=True),
        LOST,
        Answer(7, SEEN),
        Answer(8, None),
        Answer(9, None, asked=False),
        HelperHealth({"mdns:sighted": 3, "mdns:dropped:bad-name": 1}, {"meters": "it failed"}),
        RefusalReport((REFUSED, replace(REFUSED, interface="", sender="", name="", times=7))),
        RefusalReport(()),
        RefusalReport((replace(REFUSED, sender="fe80::1%lan0"),)),
        RecordedEvent("datagram", NOW - 1, {"interface": "lan0", "port": 5353, "data": b"\0\xff"}),
        RecordedEvent("end", NOW, {"reason": "time", "lost": 0}),
    ],
)  # fmt: skip
def test_gatewayd_receives_what_the_helper_sends(message: ToGatewayd) -> None:
    line = encode_to_gatewayd(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_to_gatewayd(line, KINDS, NOW) == message


@pytest.mark.parametrize(
    "message",
    [
        Start((DiscovererSpec("mdns", "mdns", {"types": ["_a._tcp"], "n": 1.5}),)),
        Start((DiscovererSpec("snmp", "snmp", {}, Secret(b"\xff\0public")),)),
        LogLevel("debug"),
        Rules((NameRule((("service", ("_a*", "b")),), True, Interest.IGNORED),)),
        Rules(()),
        KnownAddresses(frozenset({"10.0.0.1", "10.0.0.2"})),
        Rescan("mdns"),
        Verify(3, SEEN),
        RecordingRequest(60, 1 << 20),
        RecordingRequest(0, 0),
    ],
)
def test_the_helper_receives_what_gatewayd_sends(message: ToHelper) -> None:
    assert decode_to_helper(encode_to_helper(message), KINDS, NOW) == message


def test_what_the_kernel_knows_and_trust_stay_in_gatewayd() -> None:
    known = replace(
        SEEN, claims=SEEN.claims | {Claim("mac", "l2", "240ac4000001")}, trust=Trust.CORROBORATED
    )
    assert decode_to_helper(encode_to_helper(Verify(1, known)), KINDS, NOW) == Verify(1, SEEN)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "start"},
        {"type": None},
        {"source": "static"},
        {"source": "mdns/lan0/1"},
        {"source": "mdns/a name that is too long"},
        {"source": 7},
        {"key": ""},
        {"key": "x" * 513},
        {"key": "a\x1b[2J"},
        {"at": "now"},
        {"at": 10**400},
        {"valid_for": -(10**400)},
        {"at": True},
        {"at": float("nan")},
        {"at": float("inf")},
        {"valid_for": None},
        {"interface": "lan0\n"},
        {"addresses": ["10.0.0.7.8"]},
        {"addresses": "10.0.0.7"},
        {"port": 0},
        {"port": 65536},
        {"port": True},
        {"port": 1.5},
        {"claims": [["serial", "_meter._tcp", "UPPER"]]},
        {"claims": [["serial", "_meter._tcp", "12345678"]]},
        {"claims": [["mac", "l2", "240ac4000001"]]},
        {"claims": [["gateway", "x", "y"]]},
        {"claims": [["serial", "x"]]},
        {"claims": [["serial", "x", "a\u202eb"]]},
        {"claims": [["serial", "a\nb", "c"]]},
        {"claims": [["serial", "x", str(n)] for n in range(17)]},
        {"attributes": {}},
        {"attributes": {"source": "static"}},
        {"attributes": {"source": "mdns", "txt.a": "\ud800"}},
        {"attributes": {"source": "mdns", "txt.a": "x" * 256}},
        {"attributes": {"source": "mdns", "TXT.A": "x"}},
        {"attributes": {"source": "mdns", "a b": "x"}},
        {"attributes": {"source": "mdns", "txt.a": 1}},
        {"attributes": {"source": "mdns"} | {f"txt.{n}": "" for n in range(64)}},
        {"label": None},
        {"behind": None},
        {"behind": 1},
        {"behind": "false"},
    ],
)
def test_a_sighting_out_of_its_bounds_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage):
        read(sighting(**changes))


def test_no_helper_gives_its_sightings_trust() -> None:
    found = read(sighting(trust="authenticated"))
    assert isinstance(found, Sighting)
    assert found.trust is Trust.CLAIMED


@pytest.mark.parametrize(
    ("changes", "at", "valid_for"),
    [
        ({"at": NOW + 1e6, "valid_for": 1e9}, NOW, LONGEST),
        ({"at": -1e9, "valid_for": -1}, NOW - LONGEST, SHORTEST),
    ],
)
def test_moments_are_brought_within_their_bounds(
    changes: dict[str, object], at: float, valid_for: float
) -> None:
    found = read(sighting(**changes))
    assert isinstance(found, Sighting)
    assert (found.at, found.valid_for) == (at, valid_for)


def test_a_label_is_cleaned_and_addresses_are_cut() -> None:
    found = read(sighting(label="a\x1b[2J\n" + "b" * 500, addresses=["10.0.0.1"] * 20))
    assert isinstance(found, Sighting)
    assert found.label.isprintable()
    assert len(found.label) <= 64
    assert len(found.addresses) == 8


@pytest.mark.parametrize(
    "message",
    [
        {"type": "loss", "source": "mdns", "key": "k", "at": 1, "reason": "because"},
        {"type": "loss", "source": "other", "key": "k", "at": 1, "reason": "goodbye"},
        {"type": "loss", "source": "mdns", "key": "k", "reason": "goodbye"},
        {"type": "answer", "number": -1, "sighting": None, "asked": True},
        {"type": "answer", "number": 1, "sighting": [], "asked": True},
        {"type": "answer", "number": 1, "sighting": None, "asked": 1},
        {"type": "health", "counters": {"store:sighted": 1}, "faults": {}},
        {"type": "health", "counters": {"mdns:\x1b": 1}, "faults": {}},
        {"type": "health", "counters": {"mdns:sighted": -1}, "faults": {}},
        {"type": "health", "counters": {"mdns:sighted": 1 << 70}, "faults": {}},
        {
            "type": "health",
            "counters": {f"mdns:{n}": 1 for n in range(MAX_COUNTERS + 1)},
            "faults": {},
        },
        {"type": "health", "counters": {}, "faults": {"alibaba": "down"}},
        {"type": "health", "counters": {}, "faults": {"mdns": 1}},
        {"type": "health", "counters": []},
    ],
)
def test_other_messages_out_of_their_bounds_are_refused(message: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage):
        read(message)


def test_as_many_counters_as_there_may_be_fit_one_line() -> None:
    counters = {f"mdns:{number:0>123}": (1 << 53) - 1 for number in range(MAX_COUNTERS)}
    assert read(json.loads(encode_to_gatewayd(HelperHealth(counters)))) == HelperHealth(counters)


def test_a_fault_is_one_line_of_bounded_length() -> None:
    health = read({"type": "health", "counters": {}, "faults": {"mdns": "a\n\x1b[2J" + "b" * 9999}})
    assert isinstance(health, HelperHealth)
    assert health.faults["mdns"].isprintable()
    assert len(health.faults["mdns"]) <= 300


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"null", b"[]", b"{}", b"{", b"\xff", b"[" * 50_000, b'{"type":"sighting"}',
        b'{"type":"answer","number":' + b"9" * 10_000 + b"}", b" " * (MAX_TO_GATEWAYD + 1),
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_to_gatewayd(line, KINDS, NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(sighting())), JSON)
def test_a_sighting_with_any_value_is_within_bounds_or_refused(key: str, value: object) -> None:
    try:
        found = decode_to_gatewayd(json.dumps(sighting(**{key: value})).encode(), KINDS, NOW)
    except MalformedMessage:
        return
    if isinstance(found, Sighting):
        assert NOW - LONGEST <= found.at <= NOW
        assert SHORTEST <= found.valid_for <= LONGEST
        assert found.label.isprintable()
        assert all(text.isprintable() for text in (found.key, *found.attributes.values()))


@given(st.binary(max_size=300))
def test_no_line_makes_decoding_fail_otherwise(line: bytes) -> None:
    for decode in (decode_to_gatewayd, decode_to_helper):
        with pytest.raises(MalformedMessage):
            decode(line, KINDS, NOW)


def refused(*changes: tuple[int, object]) -> dict[str, Any]:
    """The message of one refusal, with changes of its members."""
    (one,) = json.loads(encode_to_gatewayd(RefusalReport((REFUSED,))))["refusals"]
    for position, value in changes:
        one[position] = value
    return {"type": "refused", "refusals": [one]}


def event(**changes: object) -> dict[str, Any]:
    """The message of an event, with changes."""
    return {"type": "event", "kind": "datagram", "at": NOW, "data": {}, **changes}


@pytest.mark.parametrize(
    "message",
    [
        {"type": "refused", "refusals": [refused()["refusals"][0]] * (MAX_REFUSALS + 1)},
        {"type": "refused", "refusals": [[]]},
        {"type": "refused", "refusals": {}},
        refused((0, "now")),
        refused((1, "static")),
        refused((2, "a name that is too long")),
        refused((3, "nowhere")),
        refused((4, "a\x1b[2J")),
        refused((4, "x" * 256)),
        refused((5, "No Cause")),
        refused((6, -1)),
        event(kind="A kind"),
        event(at="now"),
        event(data=[]),
        event(data={str(number): 1 for number in range(17)}),
        event(data={"a name": 1}),
        event(data={"sender": "a\x1b[2J"}),
        event(data={"sender": "x" * 1025}),
        event(data={"port": -1}),
        event(data={"port": 1.5}),
        event(data={"port": None}),
        event(data={"data": "no base64"}),
        event(data={"data": "A" * (MAX_DATA * 4 // 3 + 8)}),
    ],
)
def test_what_says_why_a_device_was_not_seen_is_believed_no_more(message: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        read(message)


def test_devices_of_one_kind_share_what_they_all_show() -> None:
    """A thousand forged ones cost four of eighteen MiB more where each had its own copies."""
    one, other = (
        decode_to_gatewayd(encode_to_gatewayd(seen), KINDS, NOW)
        for seen in (SEEN, replace(SEEN, key="_meter._tcp|another"))
    )
    assert isinstance(one, Sighting)
    assert isinstance(other, Sighting)
    assert one.source is other.source
    assert one.interface is other.interface
    for mine, its in (
        (one.attributes, other.attributes),
        (one.attributes.values(), other.attributes.values()),
        (sorted(claim.kind for claim in one.claims), sorted(claim.kind for claim in other.claims)),
    ):
        assert all(text is the_same for text, the_same in zip(mine, its, strict=True))
