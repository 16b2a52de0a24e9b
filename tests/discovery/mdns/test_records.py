"""The names and records of DNS-SD: which are believed, and what they claim."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim, Trust
from gatewayd.discovery.discoverer import LONGEST, SHORTEST
from gatewayd.discovery.mdns.records import (
    IN,
    MAX_KEY,
    MAX_KEYS,
    MAX_LABEL,
    SRV,
    TXT,
    InstanceName,
    InvalidServiceInfo,
    ServiceInfo,
    claims,
    confirmed_info,
    encode_query,
    parse,
    service,
    sighting,
    txt,
)
from gatewayd.discovery.sanitize import escaped_name, original_name
from gatewayd.errors import ConfigError
from gatewayd.simulator.lan import dns
from gatewayd.simulator.lan.dns import DnsQuestion
from gatewayd.testing.contracts.discoverer import check_sighting

TYPE = "_gatewayd-child._tcp"
NAME = InstanceName(TYPE, "TH-20 0001A7")
INFO = ServiceInfo("th.local.", 8080, ("192.0.2.7",), b"\x0fserial=TH20-000", 5.0, 120.0)


@pytest.mark.parametrize("written", [TYPE, f"{TYPE}.local", f"{TYPE}.local."])
def test_a_type_is_taken_in_each_spelling(written: str) -> None:
    assert service(written) == TYPE


@pytest.mark.parametrize(
    "written",
    [
        "", "http", "_http", "_http._sctp", "_http._tcp.example.org", "_-a._tcp", "_a--b._tcp",
        "_a b._tcp", f"_{'x' * 63}._tcp", "_x\n._tcp", "._tcp",
    ],
)  # fmt: skip
def test_what_is_no_type_is_refused(written: str) -> None:
    with pytest.raises(ConfigError):
        service(written)


@pytest.mark.parametrize("instance", ["TH-20 0001A7", "a.dot.in.it", "é" * 31, "-"])
def test_a_name_is_split(instance: str) -> None:
    assert parse(TYPE, f"{instance}.{TYPE}.local.") == InstanceName(TYPE, instance)


def test_names_are_compared_without_case() -> None:
    name = parse(TYPE, f"Lamp.{TYPE.upper()}.LOCAL.")
    assert name == InstanceName(TYPE, "Lamp")
    assert name.key == InstanceName(TYPE, "LAMP").key


@pytest.mark.parametrize("instance", ["", "\ufffd", "x\ufffd", "x" * 64, "é" * 32])
def test_what_is_no_name_is_refused(instance: str) -> None:
    assert parse(TYPE, f"{instance}.{TYPE}.local.") is None


ODD = {
    "a.": "a.",
    ".a": ".a",
    "a..b": "a..b",
    " ": " ",
    "a\u00a0b": r"a\xa0b",
    "\U0001f469\u200d\U0001f52c": "\U0001f469\\u200d\U0001f52c",
    "lamp\0": r"lamp\x00",
    "lamp\r\n": r"lamp\r\n",
    "a\x1b[2J": r"a\x1b[2J",
    "\u202ea": r"\u202ea",
    r"C:\temp": r"C:\\temp",
    r"C:\Users": r"C:\Users",
}
"""Names that are odd, and their texts."""


@pytest.mark.parametrize("instance", ODD)
def test_an_odd_name_is_used_and_its_text_prints(instance: str) -> None:
    name = parse(TYPE, f"{instance}.{TYPE}.local.")
    assert name is not None
    assert name.instance == instance
    seen = sighting(name, INFO, "mdns/eth1", "eth1")
    check_sighting(seen)
    assert seen.attributes["instance"] == ODD[instance]
    assert dns.decode(encode_query(name)).questions[0].name[0] == instance.encode()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15))
def test_each_name_has_a_text_of_its_own(raw: str) -> None:
    text = escaped_name(raw)
    assert text.isprintable()
    assert original_name(text) == raw
    assert original_name(escaped_name(text)) == text


@given(st.text())
def test_any_text_has_an_original(text: str) -> None:
    assert isinstance(original_name(text), str)


def test_a_name_of_another_type_is_refused() -> None:
    assert parse(TYPE, "Lamp._http._tcp.local.") is None


@given(st.text(st.characters(codec=None)))
def test_any_name_is_either_usable_or_refused(raw: str) -> None:
    for full in (raw, f"{raw}.{TYPE}.local."):
        name = parse(TYPE, full)
        assert name is None or len(encode_query(name)) <= 512


def test_a_question_asks_for_one_label_even_with_dots() -> None:
    sent = dns.decode(encode_query(InstanceName(TYPE, "a.dot.in.it")))
    label = (b"a.dot.in.it", b"_gatewayd-child", b"_tcp", b"local")
    assert sent.questions == (DnsQuestion(label, SRV), DnsQuestion(label, TXT))
    assert sent.answers == ()


def test_the_longest_name_fits() -> None:
    sent = dns.decode(encode_query(InstanceName(TYPE, "x" * MAX_LABEL)))
    assert sent.questions[0].family == IN


def record(*strings: bytes) -> bytes:
    return b"".join(bytes([len(one)]) + one for one in strings)


def test_a_sighting_holds_what_was_announced() -> None:
    seen = sighting(NAME, INFO, "mdns/eth1", "eth1")
    check_sighting(seen)
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
    assert sighting(NAME, replace(INFO, ttl=ttl), "s", "eth1").valid_for == valid


@pytest.mark.parametrize(
    ("info", "cause"),
    [
        (replace(INFO, addresses=()), "no-usable-address"),
        (replace(INFO, addresses=("127.0.0.1", "224.0.0.251")), "no-usable-address"),
    ],
)
def test_what_is_out_of_bounds_is_refused_whole(info: ServiceInfo, cause: str) -> None:
    with pytest.raises(InvalidServiceInfo, match=f"^{cause}$"):
        sighting(NAME, info, "s", "eth1")


@pytest.mark.parametrize(
    ("host", "shown"), [("a\nb.", r"a\nb"), ("x" * 300, None), ("\0" * 80, None), ("\ufffd.", None)]
)
def test_an_odd_host_is_escaped_or_left_out_and_the_device_is_seen(
    host: str, shown: str | None
) -> None:
    info = replace(INFO, host=host)
    seen = sighting(NAME, info, "s", "eth1")
    check_sighting(seen)
    assert seen.attributes.get("host") == shown
    confirmed = confirmed_info(seen, INFO.text, replace(info, port=1), 6.0)
    assert confirmed.addresses == INFO.addresses


def test_the_largest_record_that_is_allowed_is_taken() -> None:
    text = record(*[b"%032d=%s" % (i, b"v" * 6) for i in range(MAX_KEYS)])
    assert len(sighting(NAME, replace(INFO, text=text), "s", "eth1").attributes) == 7 + MAX_KEYS


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (record(b"fw=1") + b"\x09sn=cut", {"fw": "1"}),
        (b"\xff", {}),
        (record(b"fw=1", b"k" * (MAX_KEY + 1) + b"=1", b"sn=A-1"), {"fw": "1", "sn": "A-1"}),
        (record(b"fw=1", *[b"x" * 200] * 7, b"sn=A-1"), {"fw": "1"}),
        (record(b"fw=1\r\n", b"sn=A-1\0"), {"fw": r"1\r\n", "sn": r"A-1\x00"}),
        (record("n=a\u202eb\u00a0".encode()), {"n": r"a\u202eb\xa0"}),
        (record(b"v=" + b"x" * 253, b"w=" + b"x" * 230), {"v": "x" * 253, "w": "x" * 230}),
    ],
    ids=["cut", "only a length", "long key", "too long", "C strings", "unprintable", "long values"],
)
def test_what_is_odd_is_left_out_and_the_rest_is_seen(text: bytes, kept: dict[str, str]) -> None:
    assert txt(text) == kept


def test_of_too_many_entries_those_that_identify_are_kept() -> None:
    many = [b"k%d=1" % number for number in range(2 * MAX_KEYS)]
    found = txt(record(*many, b"serial=A-1", b"uuid=2f402f80-da50-11e1-9b23-ecb5fa123456"))
    assert len(found) == MAX_KEYS
    assert {"k0", "serial", "uuid"} <= found.keys()


@given(st.binary(max_size=1400))
def test_of_any_txt_record_there_is_text(raw: bytes) -> None:
    check_sighting(sighting(NAME, replace(INFO, text=raw), "s", "eth1"))


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
        ("id", "{2f402f80-da50-11e1-9b23-ecb5fa123456}", "uuid"),
        ("id", "2F402F80DA5011E19B23ECB5FA123456", "uuid"),
        ("deviceid", "AA:BB:CC:DD:EE:FF", ""),
        ("uuid", "00000000-0000-0000-0000-000000000000", ""),
        ("uuid", "ffffffff-ffff-ffff-ffff-ffffffffffff", ""),
        ("model", "TH-20", ""),
    ],
)
def test_claims(key: str, value: str, kind: str) -> None:
    made = claims(TYPE, {key: value})
    assert {(one.kind, one.namespace) for one in made} == ({(kind, TYPE)} if kind else set())


def test_a_list_of_macs_is_as_many_claims() -> None:
    listed = "24:0A:C4:0C:2F:91, 24:0A:C4:0C:2F:92;24-0a-c4-0c-2f-93 nonsense"
    made = claims(TYPE, {"mac": listed})
    assert {one.value for one in made} == {"240ac40c2f91", "240ac40c2f92", "240ac40c2f93"}
