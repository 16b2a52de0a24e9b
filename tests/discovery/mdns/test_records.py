"""From an answer to a sighting: what is believed, and what it claims."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim, Trust
from gatewayd.discovery.mdns.records import (
    LONGEST,
    MAX_KEY,
    MAX_KEYS,
    SHORTEST,
    InstanceName,
    InvalidServiceInfo,
    ServiceInfo,
    claims,
    sighting,
    txt,
    usable_addresses,
)
from gatewayd.testing.contracts.discoverer import check

TYPE = "_gatewayd-child._tcp"
NAME = InstanceName(TYPE, "TH-20 0001A7")
ANSWER = ServiceInfo("th.local.", 8080, ("192.0.2.7",), b"\x0fserial=TH20-000", 5.0, 120.0)


def record(*strings: bytes) -> bytes:
    return b"".join(bytes([len(one)]) + one for one in strings)


def test_a_sighting_holds_what_was_announced() -> None:
    seen = sighting(NAME, ANSWER, "mdns/eth1", "eth1")
    check(seen)
    assert (seen.source, seen.key) == ("mdns/eth1", f"{TYPE}|th-20 0001a7")
    assert (seen.at, seen.valid_for, seen.trust) == (5.0, 120.0, Trust.CLAIMED)
    assert (seen.addresses, seen.port, seen.label) == (("192.0.2.7",), 8080, "TH-20 0001A7")
    assert seen.claims == {Claim("serial", TYPE, "th20-000")}
    assert seen.attributes == {
        "source": "mdns", "interface": "eth1", "service": TYPE, "instance": "TH-20 0001A7",
        "host": "th.local", "address": "192.0.2.7", "port": "8080", "txt.serial": "TH20-000",
    }  # fmt: skip


@pytest.mark.parametrize(("ttl", "valid"), [(0.0, SHORTEST), (1e9, LONGEST), (4500.0, 4500.0)])
def test_validity_is_clamped(ttl: float, valid: float) -> None:
    assert sighting(NAME, replace(ANSWER, ttl=ttl), "s", "eth1").valid_for == valid


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (replace(ANSWER, host="a\nb."), "bad-host"),
        (replace(ANSWER, host="x" * 300), "bad-host"),
        (replace(ANSWER, addresses=()), "no-usable-address"),
        (replace(ANSWER, addresses=("127.0.0.1", "224.0.0.251")), "no-usable-address"),
        (replace(ANSWER, text=record(*[b"x" * 200] * 7)), "txt-too-long"),
        (replace(ANSWER, text=b"\x05abc"), "txt-malformed"),
        (replace(ANSWER, text=record(b"k" * (MAX_KEY + 1) + b"=1")), "txt-key-too-long"),
        (
            replace(ANSWER, text=record(*[b"k%d=1" % i for i in range(MAX_KEYS + 1)])),
            "txt-too-many-keys",
        ),
    ],
)
def test_what_is_out_of_bounds_is_refused_whole(answer: ServiceInfo, cause: str) -> None:
    with pytest.raises(InvalidServiceInfo, match=f"^{cause}$"):
        sighting(NAME, answer, "s", "eth1")


def test_the_largest_record_that_is_allowed_is_taken() -> None:
    text = record(*[b"%032d=%s" % (i, b"v" * 6) for i in range(MAX_KEYS)])
    assert len(sighting(NAME, replace(ANSWER, text=text), "s", "eth1").attributes) == 7 + MAX_KEYS


@given(st.binary(max_size=1400))
def test_any_txt_record_is_either_text_or_refused(raw: bytes) -> None:
    try:
        seen = sighting(NAME, replace(ANSWER, text=raw), "s", "eth1")
    except InvalidServiceInfo:
        return
    check(seen)


def test_of_a_key_that_comes_twice_the_first_counts() -> None:
    assert txt(record(b"FW=1", b"fw=2", b"flag", b"=no key", b"")) == {"fw": "1", "flag": ""}


def test_raw_bytes_are_left_out_and_hide_the_key() -> None:
    assert txt(record(b"id=\xff\xfe", b"id=later", b"\xff=1", b"fw=1")) == {"fw": "1"}


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("mac", "24:0A:C4:0C:2F:91", "mac"),
        ("macaddress", "240ac40c2f91", "mac"),
        ("bridgeid", "ECB5FAFFFE123456", "mac"),
        ("mac", "no mac", ""),
        ("mac", "ff:ff:ff:ff:ff:ff", ""),
        ("sn", "A-1", "serial"),
        ("serialnumber", "A-1", "serial"),
        ("serial", "12345678", ""),
        ("uuid", "urn:uuid:2F402F80-da50-11e1-9b23-ecb5fa123456", "uuid"),
        ("id", "2f402f80-da50-11e1-9b23-ecb5fa123456", "uuid"),
        ("id", "shellyplus1-a8032ab1", ""),
        ("id", "{2f402f80-da50-11e1-9b23-ecb5fa123456}", ""),
        ("deviceid", "AA:BB:CC:DD:EE:FF", ""),
        ("uuid", "00000000-0000-0000-0000-000000000000", ""),
        ("uuid", "ffffffff-ffff-ffff-ffff-ffffffffffff", ""),
        ("model", "TH-20", ""),
    ],
)
def test_claims(key: str, value: str, kind: str) -> None:
    made = claims(TYPE, {key: value})
    assert {(one.kind, one.namespace) for one in made} == ({(kind, TYPE)} if kind else set())


def test_addresses_that_no_host_has_are_left_out() -> None:
    given_ = ("fe80::1%2", "192.0.2.1", "0.0.0.0", "239.1.1.1", "255.255.255.255", "ff02::1", "::1")  # noqa: S104  # listens nowhere
    assert usable_addresses(given_, "eth1") == ("192.0.2.1", "fe80::1")
    assert usable_addresses(("127.1.0.7",), "lo") == ("127.1.0.7",)
    assert usable_addresses(("127.1.0.7", "::ffff:127.0.0.1"), "eth1") == ()
    assert len(usable_addresses(tuple(f"192.0.2.{i}" for i in range(1, 200)), "eth1")) == 8
