"""What is left of a recording without names and addresses."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cli.discover.anonymous import Anonymizer, Pseudonyms, Unreadable
from gatewayd.discovery.diagnosis.recorder import MAX_DATA
from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.attacker import NAMES
from gatewayd.simulator.lan.child import LanChild

KEY = b"k" * 32
CHILD = LanChild(
    "Annas Lampe 240ac40c2f91", "TH20-0001A7", "24:0a:c4:0c:2f:91", "lampe-0c2f91", "192.168.7.21",
    extra=(("fn", "Küche"), ("fw", "1.4.2"), ("uuid", "2f402f80-da50-11e1-9b23-ecb5fa123456"),
           ("sn", "00000000")),
)  # fmt: skip


def names() -> Pseudonyms:
    return Pseudonyms(KEY)


def changed(child: LanChild, *keep: str) -> dns.DnsMessage:
    packet = dns.encode(records.announcement(child))
    made = Anonymizer(names(), keep).packet(packet)
    assert len(made) == len(packet)
    return dns.decode(made)


def texts(message: dns.DnsMessage) -> dict[str, str]:
    (text,) = [one.data for one in message.answers if isinstance(one.data, dns.TextData)]
    return dict(one.decode().split("=", 1) for one in text.strings)


def test_a_packet_has_the_same_structure_and_other_names() -> None:
    before, after = records.announcement(CHILD), changed(CHILD)
    assert [one.data.kind for one in after.answers] == [one.data.kind for one in before.answers]
    assert after.answers[0].name == before.answers[0].name  # the service type
    raw = dns.encode(after)
    for secret in (b"Anna", b"Lampe", b"0c2f91", b"0001A7", "Küche".encode(), b"da50"):
        assert secret.lower() not in raw.lower()
    shown = texts(after)
    assert (shown["fw"], shown["sn"]) == ("1.4.2", "00000000")
    assert re.fullmatch(r"24:0a:c4(:[0-9a-f]{2}){3}", shown["mac"])
    assert re.fullmatch(r"TH20-\d{4}[A-Z]\d|[A-Z]{2}\d\d-\w{6}", shown["serial"])


def test_what_is_one_device_stays_one_and_fits_together() -> None:
    after = changed(CHILD)
    tail = texts(after)["mac"].replace(":", "")[6:]
    instance = after.answers[1].name[0].decode()
    assert instance.endswith(f"240ac4{tail}")
    assert after.answers[3].name[0].decode().endswith(tail)
    assert isinstance(after.answers[3].data, dns.AddressData)
    assert after.answers[3].data.address == names().address(CHILD.address)


def test_values_of_keys_can_be_kept() -> None:
    assert texts(changed(CHILD, "FN", "serial")) == {
        **texts(changed(CHILD)), "fn": "Küche", "serial": "TH20-0001A7",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_replaced_and_stays_as_odd_as_it_was(name: str) -> None:
    after = names().text(name)
    assert len(after.encode()) == len(name.encode())
    odd = re.compile(r"[^\W_]+")
    assert odd.sub("x", after) == odd.sub("x", name)


def test_addresses_stay_in_their_networks() -> None:
    made = {one: names().address(f"192.168.7.{one}") for one in range(256)}
    assert len(set(made.values())) == 256
    assert len({ipaddress.ip_network(f"{one}/24", strict=False) for one in made.values()}) == 1
    assert made[0].endswith(".0")
    assert made[255].endswith(".255")
    assert all(one.startswith("192.168.") for one in made.values())
    assert made[1] != "192.168.7.1"


@pytest.mark.parametrize("same", ["127.0.0.1", "224.0.0.251", "0.0.0.0", "::", "::1", "ff02::fb"])  # noqa: S104  # no socket
def test_addresses_that_are_no_host_stay(same: str) -> None:
    assert names().address(same) == same


def test_addresses_of_ipv6_stay_local_and_show_the_same_mac() -> None:
    local = names().address("fe80::260a:c4ff:fe0c:2f91%lan0")
    assert re.fullmatch(r"fe80::260a:c4ff:fe\w\w:\w{1,4}%lan0", local)
    tail = names().text("240ac40c2f91")[6:]
    assert ipaddress.ip_address(local).packed.hex().endswith(tail)
    one, other = (names().address(f"2001:db8:7:1:1:2:3:{n:x}") for n in (1, 2))
    assert one != other
    assert one.split(":")[:4] == other.split(":")[:4] != ["2001", "db8", "7", "1"]


def test_fields_of_events() -> None:
    event = Anonymizer(names())
    assert event.field("interface", "lan0") == "lan0"
    assert event.field("port", 5353) == 5353
    assert event.field("sender", "10.0.7.21") == names().address("10.0.7.21")
    assert event.field("addresses", "10.0.7.21/16 fe80::1/64") == (
        f"{names().address('10.0.7.21')}/16 fe80::1/64"
    )
    assert event.field("mac", "24:0a:c4:0c:2f:91") == names().text("24:0a:c4:0c:2f:91")


@pytest.mark.parametrize(
    "text",
    ["24:0a:c4:ff:fe:0c:2f:91", "24 0A C4 0C 2F 91", "Lamp_24_0a_c4_0c_2f_91", "24.0a.c4.0c.2f.91",
     "24-0a-c4-ff-fe-0c-2f-91"],
)  # fmt: skip
def test_a_mac_is_replaced_however_it_is_written(text: str) -> None:
    after = names().text(text)
    digits = re.sub(r"[^0-9a-f]", "", after.lower())
    assert digits.endswith(names().text("240ac40c2f91")[6:])
    assert "240ac4" in digits
    assert re.sub(r"[^\W_]", "x", after) == re.sub(r"[^\W_]", "x", text)


@pytest.mark.parametrize("name", ["enx240ac40c2f91", "wlx240ac40c2f91"])
def test_an_interface_that_is_named_by_its_mac_is_renamed_alike_everywhere(name: str) -> None:
    renamed = Anonymizer(names()).field("interface", name)
    assert renamed == f"{name[:9]}{names().text('240ac40c2f91')[6:]}" != name
    assert names().address(f"fe80::1%{name}") == f"fe80::1%{renamed}"


@pytest.mark.parametrize("name", ["客厅", "王伟", "İstanbul", "ȺȾ Lampe"])
def test_names_of_other_scripts_are_replaced(name: str) -> None:
    after = names().text(name)
    assert len(after.encode()) == len(name.encode())
    assert not any(one in after for one in name.split())


@pytest.mark.parametrize(
    "raw",
    [bytes.fromhex("240ac4fffe0c2f91"), b"\x9c\xb6\xd0\x8f\x93\xa4", b"\x04\x1a\x4d\x2f\x01\x33"],
)
def test_bytes_that_are_no_text_are_replaced(raw: bytes) -> None:
    """As `_meshcop._udp` has EUI-64 addresses."""
    after = names().octets(raw)
    assert len(after) == len(raw)
    assert sum(one == other for one, other in zip(after, raw, strict=True)) < 2
    assert ("\ufffd" in after.decode(errors="replace")) == (
        "\ufffd" in raw.decode(errors="replace")
    )
    assert names().octets(raw) == after


@pytest.mark.parametrize("padding", [b"\0", b"\r\n"])
def test_what_a_firmware_adds_to_a_value_stays(padding: bytes) -> None:
    assert (
        names().octets(b"TH20-0001A7" + padding) == names().text("TH20-0001A7").encode() + padding
    )


def test_a_name_like_a_service_type_is_replaced() -> None:
    odd = replace(CHILD, instance="_Annas Lampe", host="_annas-lampe")
    after = changed(odd)
    assert after.answers[0].name == records.announcement(odd).answers[0].name
    assert b"nna" not in dns.encode(after)


@given(st.lists(st.from_regex(r"\A[a-z0-9]{3}\Z"), unique=True, max_size=200))
def test_different_words_stay_different(words: list[str]) -> None:
    pseudonyms = names()
    assert len({pseudonyms.text(one) for one in words}) == len(words)


@given(st.text(max_size=80))
def test_no_text_changes_its_length(text: str) -> None:
    assert len(names().text(text).encode()) == len(text.encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_replaced_or_unreadable(raw: bytes) -> None:
    with suppress(Unreadable):
        assert len(Anonymizer(names()).packet(raw)) == len(raw)


@given(st.data())
def test_a_damaged_packet_is_replaced_or_unreadable(data: st.DataObject) -> None:
    packet = bytearray(dns.encode(records.announcement(CHILD)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(packet) - 1))
        packet[at] = data.draw(st.integers(0, 255))
    with suppress(Unreadable):
        assert len(Anonymizer(names()).packet(bytes(packet))) == len(packet)


def test_a_name_that_leads_to_itself_is_unreadable() -> None:
    packet = dns.encode(records.announcement(CHILD))
    with pytest.raises(Unreadable):
        Anonymizer(names()).packet(packet[:12] + b"\xc0\x0c" + packet[14:])


def test_the_largest_packet_of_pointers_ends_soon() -> None:
    """Records of two bytes each, with a chain of pointers, cost no more than their number."""
    record = b"\xc0\x0c" + b"\0\x0c\0\1\0\0\0\0\0\2\xc0\x0c"
    name = b"\1a" * 100 + b"\0"
    many = (MAX_DATA - 12 - len(name) - 4) // len(record)
    header = bytes(5) + b"\1" + many.to_bytes(2) + bytes(4)
    packet = header + name + bytes(4) + record * many
    assert len(Anonymizer(names()).packet(packet)) == len(packet)
