"""LLDP: the reports of lldpcli, and the source that reads them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim
from gatewayd.discovery.discoverer import Context, Discoverer
from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.lldp.discoverer import (
    MAX_REPORT,
    STALE,
    Lldp,
    LldpSettings,
    found,
)
from gatewayd.discovery.protocols.lldp.report import MAX_NEIGHBOURS, LldpNeighbour, neighbours
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.testing.contracts.discoverer import (
    RecordingSink,
    running,
    want_all,
)
from gatewayd.testing.waiting import until
from tests.support.reportable import assert_reportable
from tests.support.source_contract import SourceContract

VECTORS = json.loads((Path(__file__).parent / "vectors/lldp.json").read_text())
MAC = "001b1b3434cb"
SWITCH: dict[str, Any] = {
    "name": "lan0",
    "via": "LLDP",
    "chassis": [{
        "id": [{"type": "mac", "value": "00:1b:1b:34:34:cb"}],
        "name": [{"value": "sw-1"}],
        "descr": [{"value": "ACME switch"}],
        "mgmt-ip": [{"value": "10.77.0.2"}, {"value": "fe80::2"}],
        "capability": [{"type": "Bridge", "enabled": True}, {"type": "Wlan", "enabled": False}],
    }],
    "port": [{"id": [{"type": "ifname", "value": "Gi1/0/4"}], "descr": [{"value": "uplink"}],
              "ttl": [{"value": "120"}]}],
    "lldp-med": [{"inventory": [{
        "serial": [{"value": "SN-0815"}], "manufacturer": [{"value": "ACME Inc."}],
        "model": [{"value": "S-8"}], "firmware": [{"value": "1.2"}],
    }]}],
}  # fmt: skip


def phone(number: int) -> dict[str, Any]:
    """A neighbour that says little."""
    chassis = {"id": [{"type": "local", "value": f"phone {number}"}]}
    return {"name": "lan0", "chassis": [chassis], "port": [{"ttl": [{"value": "0"}]}]}


def report(*entries: object) -> bytes:
    return json.dumps({"lldp": [{"interface": list(entries)}]}).encode()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: one["id"])
def test_vectors(vector: dict[str, Any]) -> None:
    shown = [
        {
            "interface": one.interface,
            "chassis_mac": one.mac or one.chassis.replace(":", ""),
            "system_name": one.name,
            "system_descr": one.description,
            "mgmt": list(one.addresses),
            "port_mac": one.port.replace(":", ""),
            "ttl": one.ttl,
        }
        | ({"inventory": dict(one.inventory)} if one.inventory else {})
        for one in neighbours(vector["text"].encode())
    ]
    assert shown == vector["expect"].get("neighbours", [vector["expect"]])


def test_a_neighbour_with_all_that_it_may_say() -> None:
    (one,) = neighbours(report(SWITCH))
    assert one == LldpNeighbour(
        interface="lan0", chassis_type="mac", chassis="00:1b:1b:34:34:cb", mac=MAC, name="sw-1",
        description="ACME switch", port="Gi1/0/4", port_description="uplink", ttl=120,
        addresses=("10.77.0.2", "fe80::2"), capabilities=("Bridge",),
        inventory={"firmware": "1.2", "serial": "SN-0815", "manufacturer": "ACME Inc.",
                   "model": "S-8"},
    )  # fmt: skip


def test_several_neighbours_in_the_shorter_form() -> None:
    chassis = {"id": {"type": "mac", "value": "24:0a:c4:0c:2f:91"}}
    text = {"lldp": {"interface": [
        {"lan0": {"chassis": {"sw-1": chassis}, "port": {"ttl": "20"}}},
        {"lan1": {"chassis": chassis, "port": {}}},
    ]}}  # fmt: skip
    assert [(one.interface, one.name, one.mac, one.ttl) for one in neighbours(
        json.dumps(text).encode()
    )] == [("lan0", "sw-1", "240ac40c2f91", 20), ("lan1", "", "240ac40c2f91", 0)]  # fmt: skip


@pytest.mark.parametrize("kind", ["ip", "local", "ifname"])
def test_a_chassis_id_that_is_no_mac_claims_none(kind: str) -> None:
    chassis = {"id": [{"type": kind, "value": "24:0a:c4:0c:2f:91"}]}
    (one,) = neighbours(report({"name": "lan0", "chassis": [chassis]}))
    assert (one.mac, one.chassis) == ("", "24:0a:c4:0c:2f:91")


@pytest.mark.parametrize("entry", [{}, {"name": "lan0"}, {"name": "lan0", "chassis": [{}]}, 5,
                                   {"name": "", "chassis": SWITCH["chassis"]}])  # fmt: skip
def test_an_entry_without_a_chassis_is_none(entry: object) -> None:
    assert list(neighbours(report(entry))) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_report_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        list(neighbours(content))


def test_no_more_neighbours_are_read_than_count() -> None:
    assert len(list(neighbours(report(*map(phone, range(500)))))) == MAX_NEIGHBOURS


TEXTS = st.sampled_from(["\x1b[2J", "ü" * 300, "00:1b:1b:34:34:cb", "mac", " ", "\ud800", "=" * 90])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | TEXTS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["interface", "name", "chassis", "id", "value", "type", "port", "ttl",
                         "mgmt-ip", "lldp-med", "inventory", "serial", "manufacturer", "capability",
                         "x"]),
        inner, max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_any_json_is_borne(value: object) -> None:
    for one in neighbours(json.dumps({"lldp": value}).encode()):
        assert one.chassis
        assert_reportable(found(one))


@given(st.text(min_size=1), TEXTS | st.text(), TEXTS | st.text())
def test_whatever_a_neighbour_writes_can_be_reported(chassis: str, serial: str, maker: str) -> None:
    one = LldpNeighbour(
        "lan0", "local", chassis[:255], name=serial[:255],
        inventory={"serial": serial[:255], "manufacturer": maker[:255]},
    )  # fmt: skip
    assert_reportable(found(one))


@given(st.binary(max_size=200))
def test_any_bytes_are_borne(raw: bytes) -> None:
    with suppress(UnreadableAnswer):
        list(neighbours(raw))


# The source.


class Report:
    """The report, as the unit writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, *entries: object) -> None:
        self.write_raw(report(*entries))

    def write_raw(self, content: bytes) -> None:
        new = self.path.with_name("new")
        new.write_bytes(content)
        new.replace(self.path)


@pytest.fixture
def written(tmp_path: Path) -> Report:
    made = Report(tmp_path / "neighbours.json")
    made.write(SWITCH, phone(1))
    return made


def source(written: Report, *interfaces: str) -> Lldp:
    return Lldp("cables", LldpSettings(interfaces or ("lan0",), written.path))


class LldpTestbed:
    count = 2
    limit = 64

    def __init__(self, written: Report) -> None:
        self.discoverer: Discoverer = source(written)
        self.written = written

    async def remove(self, key: str) -> bool:
        await asyncio.to_thread(self.written.write, phone(2))
        return True

    async def abuse(self) -> None:
        """More neighbours than are kept, with names of all kinds."""
        odd = {**SWITCH, "chassis": [{**SWITCH["chassis"][0], "name": [{"value": "\x1b[2J" * 90}]}]}
        await asyncio.to_thread(self.written.write, odd, *map(phone, range(300)))
        await asyncio.sleep(2.5)  # by then it was read


class TestLldpByTheContract(SourceContract):
    @pytest.fixture(autouse=True)
    def _with_a_report(self, written: Report) -> None:
        self.written = written

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[LldpTestbed]:
        yield LldpTestbed(self.written)


async def test_a_neighbour_is_its_chassis(written: Report) -> None:
    async with running(source(written)) as sink:
        await until(lambda: len(sink.seen) == 2)
        switch, other = sink.seen[MAC], sink.seen["local phone 1"]
    assert switch.source == "cables/lan0"
    assert switch.claims == {
        Claim("mac", "lldp", MAC), Claim("serial", "lldp.acme-inc", "sn-0815"),
    }  # fmt: skip
    assert switch.addresses == ()  # the kernel knows none of what it writes
    assert switch.valid_for == 120
    assert switch.label == "sw-1"
    assert switch.attributes == {
        "source": "lldp", "interface": "lan0", "vendor": "ACME Inc.", "model": "S-8",
        "serial": "SN-0815", "lldp.chassis": "00:1b:1b:34:34:cb", "lldp.name": "sw-1",
        "lldp.description": "ACME switch", "lldp.port": "Gi1/0/4",
        "lldp.port-description": "uplink", "lldp.capabilities": "Bridge",
        "lldp.management-address": "10.77.0.2", "lldp.firmware": "1.2",
    }  # fmt: skip
    assert not other.claims


async def test_a_neighbour_that_is_renamed_and_uses_another_port_stays_the_same(
    written: Report,
) -> None:
    async with running(source(written)) as sink:
        await until(lambda: len(sink.seen) == 2)
        renamed = {**SWITCH["chassis"][0], "name": [{"value": "sw-2"}]}
        port = {"id": [{"type": "ifname", "value": "Gi1/0/9"}]}
        written.write({**SWITCH, "chassis": [renamed], "port": [port]}, phone(1))
        await until(lambda: sink.seen[MAC].label == "sw-2")
        assert sink.seen[MAC].attributes["lldp.port"] == "Gi1/0/9"
        assert len(sink.seen) == 2


async def test_other_interfaces_do_not_count(written: Report) -> None:
    written.write({**SWITCH, "name": "wan0"}, phone(1))
    async with running(source(written)) as sink:
        await until(lambda: sink.seen)
        assert set(sink.seen) == {"local phone 1"}


async def test_a_report_that_cannot_be_understood_is_counted(written: Report) -> None:
    discoverer = source(written)
    async with running(discoverer) as sink:
        await until(lambda: len(sink.seen) == 2)
        written.write_raw(b'{"lldp":')
        await until(lambda: discoverer.health.dropped.get("bad-json", 0) > 0)
        assert not sink.lost


async def fault(discoverer: Lldp) -> str:
    """Why a discoverer cannot run."""
    context = Context(asyncio.get_running_loop().time, lambda: 0.5, want_all)
    with pytest.raises(DiscoveryRetry) as error:
        async with asyncio.timeout(60):
            await discoverer.run(context, RecordingSink())
    return str(error.value)


async def test_an_old_report_says_nothing(written: Report) -> None:
    past = time.time() - STALE - 60
    os.utime(written.path, (past, past))
    text = await fault(source(written))
    assert text.startswith(f"cables: {written.path} is 24")
    assert text.endswith("s old. Start lldpd, and gatewayd-lldp.timer")


@pytest.mark.parametrize("content", [None, b" " * (MAX_REPORT + 1)])
async def test_a_report_that_cannot_be_read_is_a_fault(
    written: Report, content: bytes | None
) -> None:
    if content is None:
        written.path.unlink()
    else:
        written.write_raw(content)
    assert "Enable gatewayd-lldp.timer, of /usr/share/doc/gatewayd/examples" in await fault(
        source(written)
    )


def test_an_interface_must_be_named(written: Report) -> None:
    with pytest.raises(ConfigError, match="interfaces must name at least one"):
        Lldp("cables", LldpSettings((), written.path))


def test_nothing_is_sent(written: Report) -> None:
    assert source(written).transmissions() == ()
