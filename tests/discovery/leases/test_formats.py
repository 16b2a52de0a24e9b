"""The lease files of each server: as the servers write them, and as they never should be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.leases.isc import parse_isc
from gatewayd.discovery.leases.lease import MAX_LEASES, NEVER, Lease, ParseLeases, Row, live
from gatewayd.discovery.leases.lines import parse_dnsmasq, parse_kea
from gatewayd.discovery.leases.networkd import parse_networkd

VECTORS = {
    one["id"]: one
    for one in json.loads((Path(__file__).parent / "vectors/leases.json").read_text())
}
PARSERS: dict[str, ParseLeases] = {
    "dhcp-dnsmasq": parse_dnsmasq,
    "dhcp-kea": parse_kea,
    "dhcp-isc": parse_isc,
    "dhcp-networkd": parse_networkd,
}
MAC = "001b1b3434cb"


def parsed(vector: dict[str, Any]) -> list[Row]:
    return list(PARSERS[vector["protocol"]](vector["text"].encode()))


def of_kind(protocol: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    vectors = [one for one in VECTORS.values() if one["protocol"] == protocol]
    assert vectors
    return pytest.mark.parametrize("vector", vectors, ids=lambda one: one["id"])


@of_kind("dhcp-dnsmasq")
def test_dnsmasq(vector: dict[str, Any]) -> None:
    assert parsed(vector) == [
        Lease(
            one["address"],
            one["mac"],
            NEVER if one["expires"] is None else one["expires"],
            one["hostname"],
            one["client_id"] or "",
        )
        for one in vector["expect"]
    ]


def test_kea_the_last_row_counts_and_declined_is_no_lease() -> None:
    renamed, declined = VECTORS["dhcp-kea-01"], VECTORS["dhcp-kea-03"]
    rows = parsed(renamed)
    assert len(rows) == renamed["expect"]["rows"]
    assert live(filter(None, rows), 0) == [
        Lease("10.77.0.100", "6247cd4f586f", 1795978057, "plc", "016247cd4f586f")
    ]
    last = parsed(declined)[-1]
    assert last is not None
    expected = declined["expect"]["last"]
    assert (last.address, last.mac, last.ends) == (
        expected["address"], expected["hwaddr"], expected["expires"],
    )  # fmt: skip
    assert live(filter(None, parsed(declined)), 0) == []


@of_kind("dhcp-isc")
def test_isc(vector: dict[str, Any]) -> None:
    rows = parsed(vector)
    assert [
        {
            "address": one.address,
            "mac": one.mac,
            "hostname": one.hostname,
            "ends": datetime.fromtimestamp(one.ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        | ({"client_id": one.client_id, "vendor_class": one.vendor_class} if one.vendor_class
           else {})
        for one in live(filter(None, rows), 0)
    ] == vector["expect"]["live"]  # fmt: skip
    assert len(rows) == vector["expect"].get("blocks", len(rows))
    if "vendor_class" in vector["expect"]:
        assert vector["expect"]["vendor_class"] in {one.vendor_class for one in rows if one}


@of_kind("dhcp-networkd")
def test_networkd(vector: dict[str, Any]) -> None:
    assert [
        (one.address, one.mac, one.hostname, int(one.ends)) for one in parsed(vector) if one
    ] == [(one["address"], one["mac"], one["hostname"], one["expires"]) for one in vector["expect"]]


# What is written besides.

DNSMASQ = "1795977509 00:1b:1b:34:34:cb 10.77.0.57 plc 01:00:1b:1b:34:34:cb\n"
KEA_HEAD = (
    "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,"
    "user_context,pool_id\n"
)


def kea(
    lifetime: str = "3600", state: str = "0", mac: str = "00:1b:1b:34:34:cb", name: str = "plc"
) -> str:
    return f"10.77.0.57,{mac},01:00,{lifetime},1795977509,1,0,0,{name},{state},,0\n"


def isc(*statements: str) -> str:
    return "lease 10.77.0.57 {\n" + "".join(f"  {one};\n" for one in statements) + "}\n"


ISC = isc("ends 1 2026/11/30 08:53:42", "binding state active",
          "hardware ethernet 00:1b:1b:34:34:cb")  # fmt: skip


def networkd(**fields: object) -> str:
    row = {
        "ClientId": [1, 0, 27, 27, 52, 52, 203],
        "Address": [10, 77, 0, 57],
        "ExpirationRealtimeUSec": 1795977509000000,
        **fields,
    }
    return json.dumps({"BootID": "x", "Leases": [{k: v for k, v in row.items() if v != "none"}]})


@pytest.mark.parametrize(
    ("parse", "whole", "row"),
    [
        (parse_dnsmasq, DNSMASQ, DNSMASQ),
        (parse_kea, KEA_HEAD + kea(), kea()),
        (parse_isc, ISC, ISC),
    ],
)
def test_a_half_written_end_is_left_out(parse: ParseLeases, whole: str, row: str) -> None:
    for cut in range(1, len(row.rstrip("\n"))):
        rows = list(parse((whole + row[:cut]).encode()))
        assert len(rows) == 1, row[:cut]
        assert rows[0] is not None
        assert rows[0].address == "10.77.0.57"


def test_a_half_written_file_of_networkd_is_none() -> None:
    text = networkd()
    assert [one for cut in range(len(text)) for one in parse_networkd(text[:cut].encode())] == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1795977509",
        "never 00:1b:1b:34:34:cb 10.77.0.57 plc *",
        "-5 00:1b:1b:34:34:cb 10.77.0.57 plc *",
        "99999999999999999999 00:1b:1b:34:34:cb 10.77.0.57 plc *",
        "1795977509 06-00:1b:1b:34:34:cb 10.77.0.57 plc *",  # token ring
        "1795977509 001b1b3434cb 10.77.0.57 plc *",
        "1795977509 00:1b:1b:34:34:cb fd77::57 plc *",
        "1795977509 00:1b:1b:34:34:cb 10.77.0.257 plc *",
    ],
)
def test_a_line_of_dnsmasq_that_is_none(line: str) -> None:
    rows = list(parse_dnsmasq(f"{line}\n{DNSMASQ}".encode()))
    assert rows == ([None] if line else []) + list(parse_dnsmasq(DNSMASQ.encode()))


DNSMASQ6 = """duid 00:01:00:01:32:a0:26:c1:24:0a:c4:ff:00:01
1796041888 456406219 fd77::8a * 00:01:00:01:32:a0:26:c6:00:1b:1b:34:34:cb
1796041885 456406219 fd77:0::6a plc 00:03:00:01:00:1b:1b:34:34:cb
1796041885 456406219 fd77::6b plc 00:02:00:00:ab:11:1b:34:34:cb
"""
"""What dnsmasq 2.90 wrote for ISC's client, with one name and the last row added."""
ISC6 = r"""authoring-byte-order little-endian;
server-duid "\000\001\000\0012\240'\007$\012\304\377\000\001";
ia-na "\31344\033\000\003\000\001\000\033\03344\313" {
  cltt 1 2026/11/30 12:22:36;
  iaaddr fd77::98 {
    binding state active;
    preferred-life 375;
    max-life 600;
    ends 1 2026/11/30 12:32:36;
  }
}
ia-na "\31344\033\000\001\000\0012\240'\015\000\033\03344\313" {
  cltt 1 2026/11/30 12:22:39;
  iaaddr fd77::99 {
    binding state active;
    preferred-life 375;
    max-life 600;
    ends 1 2026/11/30 12:32:39;
  }
}
ia-pd "\31344\033\000\003\000\001\000\033\03344\313" {
  iaprefix fd78::/64 {
    binding state active;
    ends never;
  }
}
"""
"""What ISC dhcpd 4.4.3 wrote for its own client, with a prefix added."""
KEA6 = """address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,\
fqdn_fwd,fqdn_rev,hostname,hwaddr,state,user_context,hwtype,hwaddr_source
fd77::50,00:03:00:01:00:1b:1b:34:34:cb,600,1796042000,1,375,0,456406219,128,0,0,plc,,0,,,
fd77::51,00:02:00:00:ab:11,600,1796042000,1,375,0,456406219,128,0,0,,00:1b:1b:34:34:cb,0,,1,2
fd78::,00:03:00:01:00:1b:1b:34:34:cb,600,1796042000,1,375,2,456406219,64,0,0,,,0,,,
fd77::50,00:03:00:01:00:1b:1b:34:34:cb,0,1796042000,1,375,0,456406219,128,0,0,plc,,0,,,
"""
"""The first line is that of Kea 2.2."""
DUID, DUID_T = "00030001001b1b3434cb", "0001000132a026c6001b1b3434cb"


def test_leases_of_ipv6_are_of_the_mac_in_their_duid() -> None:
    assert list(parse_dnsmasq((DNSMASQ + DNSMASQ6).encode()))[1:] == [
        Lease("fd77::8a", MAC, 1796041888, duid=DUID_T),
        Lease("fd77::6a", MAC, 1796041885, "plc", duid=DUID),
        None,
    ]
    assert list(parse_isc(ISC6.encode())) == [
        Lease("fd77::98", MAC, 1796041956, duid=DUID),
        Lease("fd77::99", MAC, 1796041959, duid="0001000132a0270d001b1b3434cb"),
    ]
    rows = list(parse_kea(KEA6.encode()))
    assert rows == [
        Lease("fd77::50", MAC, 1796042000, "plc", duid=DUID),
        Lease("fd77::51", MAC, 1796042000, duid="00020000ab11"),
        Lease("fd77::50", MAC, 1796042000, "plc", duid=DUID, is_active=False),
    ]
    assert [one.address for one in live(filter(None, rows), 0)] == ["fd77::51"]


def test_a_block_in_a_block_in_a_block_hides_no_lease() -> None:
    nested = ISC.replace("{\n", "{\n" + "x { y;" * 20_000 + "}" * 20_000, 1)
    assert len(live(filter(None, parse_isc(nested.encode())), 0)) == 1


def test_a_name_that_dnsmasq_does_not_know_is_none() -> None:
    (row,) = parse_dnsmasq(b"0 00:1b:1b:34:34:cb 10.77.0.57 * *\n")
    assert row == Lease("10.77.0.57", MAC, NEVER)


def test_columns_of_kea_go_by_their_names() -> None:
    swapped = "hwaddr,address,expire,valid_lifetime\n00:1b:1b:34:34:cb,10.77.0.57,1795977509,60\n"
    assert list(parse_kea(swapped.encode())) == [Lease("10.77.0.57", MAC, 1795977509)]


@pytest.mark.parametrize("text", ["", "\n", "address,hwaddr\n10.77.0.57,00:1b:1b:34:34:cb\n"])
def test_without_its_columns_a_file_of_kea_holds_nothing(text: str) -> None:
    assert list(parse_kea(text.encode())) == []


@pytest.mark.parametrize(
    ("row", "is_live"),
    [
        (kea(), True),
        (kea(lifetime="4294967295"), True),
        (kea(lifetime="0"), False),  # released
        (kea(state="1"), False),
        (kea(state="2"), False),
    ],
)
def test_rows_of_kea(row: str, *, is_live: bool) -> None:
    assert bool(live(filter(None, parse_kea((KEA_HEAD + row).encode())), 0)) == is_live


def test_an_infinite_lease_of_kea_does_not_end() -> None:
    (row,) = parse_kea((KEA_HEAD + kea(lifetime="4294967295")).encode())
    assert row is not None
    assert row.ends == NEVER


def test_a_comma_in_a_name_is_one() -> None:
    (row,) = parse_kea((KEA_HEAD + kea(name="plc&#x2c4")).encode())
    assert row is not None
    assert row.hostname == "plc,4"


@pytest.mark.parametrize("row", ["10.77.0.57\n", kea(mac=""), kea().replace("10.77", "10.777")])
def test_a_row_of_kea_that_is_none(row: str) -> None:
    assert list(parse_kea((KEA_HEAD + row).encode())) == [None]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ("ends never", math.inf),
        ("ends epoch 1795977509", 1795977509),
        ("ends 1 2026/11/30 08:53:42", 1796028822),
        ("ends 1 2026/02/30 08:53:42", None),
        ("ends 1", None),
        ("ends", None),
        ("starts never", None),
    ],
)
def test_when_a_lease_of_isc_ends(ends: str, expected: float | None) -> None:
    text = isc(ends, "binding state active", "hardware ethernet 00:1b:1b:34:34:cb")
    (row,) = parse_isc(text.encode())
    assert (row.ends if row else None) == expected


def test_texts_of_isc_have_octal_escapes() -> None:
    text = isc("ends never", "binding state active", "hardware ethernet 00:1b:1b:34:34:cb",
               r'client-hostname "a\"b\\c\303\244"', r'uid "\001\000\033\03344\313"')  # fmt: skip
    (row,) = parse_isc(text.encode())
    assert row is not None
    assert (row.hostname, row.client_id) == ('a"b\\cä', "01001b1b3434cb")


def test_a_client_id_of_isc_may_be_written_as_octets() -> None:
    text = isc("ends never", "binding state active", "hardware ethernet 00:1b:1b:34:34:cb",
               "uid 01:00:1b:1b:34:34:cb")  # fmt: skip
    (row,) = parse_isc(text.encode())
    assert row is not None
    assert row.client_id == "01001b1b3434cb"


def test_what_is_inside_a_block_of_isc_is_not_of_the_lease() -> None:
    text = (
        'failover peer "x" state { my state normal; }\n'
        "lease 10.77.0.57 { ends never; binding state active;\n"
        " on expiry { set ends = never; hardware ethernet 00:00:00:00:00:09; }\n"
        " hardware ethernet 00:1b:1b:34:34:cb; }\n"
        "host x { hardware ethernet 00:1b:1b:34:34:cc; }\n"
    )
    assert list(parse_isc(text.encode())) == [Lease("10.77.0.57", MAC, NEVER)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Lease("10.77.0.57", MAC, 1795977509, client_id=f"01{MAC}")),
        ({"ExpirationRealtimeUSec": "none"}, Lease("10.77.0.57", MAC, NEVER, client_id=f"01{MAC}")),
        ({"ExpirationRealtimeUSec": "none", "ExpirationUSec": 5}, None),
        ({"ExpirationRealtimeUSec": -1}, None),
        ({"ExpirationRealtimeUSec": 1e400}, None),
        ({"ExpirationRealtimeUSec": True}, None),
        ({"ClientId": [255, 1, 2], "HardwareAddress": [0, 27, 27, 52, 52, 203]},
         Lease("10.77.0.57", MAC, 1795977509, client_id="ff0102")),
        ({"ClientId": [255, 1, 2]}, None),
        ({"HardwareAddress": [0, 27, 27, 52, 52, 203], "HardwareAddressType": 32}, None),
        ({"HardwareAddress": [0, 27, 27]}, None),
        ({"HardwareAddress": [0, 27, 27, 52, 52, 203] + [0] * 10}, None),
        ({"HardwareAddress": [0, 27, 27, 52, 52, 203] + [0] * 10, "HardwareAddressLength": 6},
         Lease("10.77.0.57", MAC, 1795977509, client_id=f"01{MAC}")),
        ({"HardwareAddress": [0, 27, 27], "HardwareAddressLength": 6}, None),
        ({"Address": [10, 77, 0]}, None),
        ({"Address": "10.77.0.57"}, None),
        ({"Address": [10, 77, 0, 256]}, None),
        ({"Hostname": 5}, Lease("10.77.0.57", MAC, 1795977509, client_id=f"01{MAC}")),
    ],
)  # fmt: skip
def test_rows_of_networkd(fields: dict[str, Any], expected: Row) -> None:
    assert list(parse_networkd(networkd(**fields).encode())) == [expected]


def test_the_bare_list_of_an_earlier_networkd_is_read() -> None:
    bare = json.dumps(json.loads(networkd())["Leases"])
    assert len(list(parse_networkd(bare.encode()))) == 1


@pytest.mark.parametrize("text", ["", "null", "5", '{"Leases": 5}', "[" * 100_000, "\xff"])
def test_what_is_no_file_of_networkd_holds_nothing(text: str) -> None:
    assert list(parse_networkd(text.encode("latin-1"))) == []


# All of them.


@given(st.binary(max_size=300), st.sampled_from(sorted(PARSERS)))
def test_any_bytes_are_borne(raw: bytes, kind: str) -> None:
    begun = {
        "dhcp-dnsmasq": DNSMASQ, "dhcp-kea": KEA_HEAD + kea(), "dhcp-isc": ISC,
        "dhcp-networkd": networkd(),
    }[kind].encode()  # fmt: skip
    for content in (raw, begun + raw, begun[: len(begun) // 2] + raw):
        for row in PARSERS[kind](content):
            assert row is None or (len(row.hostname) <= 255 and len(row.client_id) <= 255)


def test_the_last_row_of_an_address_counts() -> None:
    first, other = Lease("10.77.0.1", MAC, 100), Lease("10.77.0.2", MAC, 100)
    last = Lease("10.77.0.1", "240ac40c2f91", 200)
    free = Lease("10.77.0.2", "", 100, is_active=False)
    assert live([first, other, last], 0) == [other, last]
    assert live([first, other, last, free], 0) == [last]
    assert live([first, other, last], 150) == [last]


def test_of_too_many_leases_the_newest_count() -> None:
    rows = [Lease(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", MAC, NEVER) for n in range(5000)]
    assert live(iter(rows), 0) == rows[-MAX_LEASES:]
