"""The kernel as a witness of who is there: its messages, and what it finds out on a LAN."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.kernel.neighbours import DELAY, PERMANENT, PROBE, REACHABLE, STALE
from gatewayd.discovery.kernel.witness import FAILED, GRAIN, NeighbourWitness, Witnessed
from gatewayd.testing.waiting import PATIENCE, until
from tests.discovery.kernel.test_neighbours import INCOMPLETE, MAC, NOARP
from tests.support.bridged_lan import INTERFACE, BridgedLan, bridged_lan
from tests.support.tasks import in_background

VECTORS = json.loads((Path(__file__).parent / "vectors/neighbours.json").read_text())
NOW = 1000.0
LO = socket.if_nametoindex("lo")


def message(address: str, state: int, *, mac: str = MAC, age: float = 1.0, kind: int = 28) -> bytes:
    """One entry of the kernel's table, with the time since it was confirmed."""
    one = ip_address(address)
    family = socket.AF_INET if one.version == 4 else socket.AF_INET6
    body = struct.pack("=BxxxiHBB", family, LO, state, 0, 1)
    times = struct.pack("=IIII", int(age * 100), 0, 0, 0)
    for key, value in ((1, one.packed), (2, bytes.fromhex(mac)), (3, times)):
        body += struct.pack("=HH", 4 + len(value), key) + value + b"\0" * (-len(value) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


class Seen(list[Witnessed]):
    """A witness, and what it has reported."""

    def __init__(self, limit: int = 8) -> None:
        super().__init__()
        self.witness = NeighbourWitness(lambda: NOW, self.append, limit)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: one["id"])
def test_vectors(vector: dict[str, Any]) -> None:
    seen = Seen()
    seen.witness.learn(bytes.fromhex(vector["hex"]))
    expected = vector["expect"]
    believed = expected.get("state") == "STALE"
    assert [(one.interface, str(one.address), one.mac) for one in seen] == (
        [(expected["ifindex"], expected["address"], expected["mac"])] if believed else []
    )


@pytest.mark.parametrize("state", [REACHABLE, STALE, DELAY, PROBE])
@pytest.mark.parametrize("address", ["192.0.2.7", "fe80::7"])
def test_a_neighbour_that_has_answered_is_seen(address: str, state: int) -> None:
    seen = Seen()
    seen.witness.learn(message(address, state, age=12.5))
    assert seen == [Witnessed(LO, ip_address(address), MAC, NOW - 12.5)]
    assert seen.witness.find(address, "lo") == seen[0]
    assert seen.witness.addresses(LO, MAC) == (address,)


@pytest.mark.parametrize("state", [0, INCOMPLETE, FAILED, NOARP, PERMANENT])
def test_a_neighbour_that_has_not_answered_is_none(state: int) -> None:
    seen = Seen()
    seen.witness.learn(message("192.0.2.7", REACHABLE))
    seen.witness.learn(message("192.0.2.7", state))
    assert len(seen) == 1
    assert seen.witness.find("192.0.2.7", "lo") is None
    assert seen.witness.addresses(LO, MAC) == ()


@pytest.mark.parametrize("mac", ["01005e00170c", "000000000000", "11" * 6])
def test_the_mac_of_no_single_device_is_none(mac: str) -> None:
    seen = Seen()
    seen.witness.learn(message("192.0.2.7", REACHABLE, mac=mac))
    assert not seen


def test_the_addresses_of_a_device_come_the_newest_first() -> None:
    seen = Seen()
    for last, age in ((1, 30), (2, 5), (3, 60)):
        seen.witness.learn(message(f"192.0.2.{last}", STALE, age=age))
    assert seen.witness.addresses(LO, MAC) == ("192.0.2.2", "192.0.2.1", "192.0.2.3")


def test_what_is_not_read_again_is_forgotten() -> None:
    seen = Seen()
    for last in (1, 2):
        seen.witness.learn(message(f"192.0.2.{last}", STALE))
    seen.witness.restart()
    assert seen.witness.find("192.0.2.1", "lo")  # until all was read
    seen.witness.learn(message("192.0.2.2", STALE))
    seen.witness.complete()
    assert seen.witness.addresses(LO, MAC) == ("192.0.2.2",)


def test_more_than_the_limit_are_not_kept() -> None:
    seen = Seen(limit=3)
    for last in range(1, 9):
        seen.witness.learn(message(f"192.0.2.{last}", STALE))
    assert len(seen.witness.addresses(LO, MAC)) == 3


def test_an_unknown_interface_is_none() -> None:
    assert Seen().witness.find("192.0.2.1", "none0") is None
    assert Seen().witness.find("no address", "lo") is None


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes_are_borne(bodies: list[bytes]) -> None:
    seen = Seen()
    for body in bodies:
        seen.witness.learn(struct.pack("=IHHII", 16 + len(body), 28, 0, 0, 0) + body)
    seen.witness.complete()


# On a LAN.


@contextmanager
def quick_lan() -> Iterator[BridgedLan]:
    """A LAN where the kernel asks a silent neighbour after one second, and not after five."""
    with bridged_lan() as lan:
        for key, value in (("delay_first_probe_time", "1"), ("retrans_time_ms", "300")):
            Path(f"/proc/sys/net/ipv4/neigh/{INTERFACE}/{key}").write_text(f"{value}\n")
        yield lan


@asynccontextmanager
async def witnessing() -> AsyncIterator[NeighbourWitness]:
    witness = NeighbourWitness(asyncio.get_running_loop().time, lambda _: None)
    async with in_background(witness.run()):
        yield witness


def now() -> float:
    return asyncio.get_running_loop().time()


async def by_verdict(witness: NeighbourWitness, address: str) -> bool:
    """Ask; the answer is the kernel's, not that of the time-out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gatewayd.discovery.kernel.witness.ASK", 3600.0)
        async with asyncio.timeout(PATIENCE):
            return await witness.ask(address, INTERFACE, MAC, now())


async def only_believed(lan: BridgedLan, address: str) -> None:
    """Have the kernel believe a neighbour, so that it does not ask at once."""
    lan.forget(stale=address)
    await asyncio.sleep(2 * GRAIN)  # what was confirmed before counts no longer


@pytest.mark.namespace
async def test_a_device_that_answers_is_there() -> None:
    with quick_lan() as lan:
        host = lan.host("24:0a:c4:0c:2f:91", "10.77.0.5/24")
        lan.host("08:61:95:00:00:07", "10.77.0.6/24")  # the cable stays plugged in
        async with witnessing() as witness:
            began = now()
            assert await witness.ask("10.77.0.5", INTERFACE, MAC, began)
            await until(lambda: witness.find("10.77.0.5", INTERFACE) is not None)
            host.switch_off()
            assert await witness.ask("10.77.0.5", INTERFACE, MAC, began - 2)  # it is not asked


@pytest.mark.namespace
async def test_a_device_that_drops_datagrams_answers_the_kernel() -> None:
    with quick_lan() as lan:
        silent = lan.host("24:0a:c4:0c:2f:91", "10.77.0.5/24")
        silent.run("nft", "add table inet f; add chain inet f c { type filter hook input "
                   "priority 0 ; policy drop ; }")  # fmt: skip
        async with witnessing() as witness:
            assert await witness.ask("10.77.0.5", INTERFACE, MAC, now())
            await only_believed(lan, "10.77.0.5")
            assert await witness.ask("10.77.0.5", INTERFACE, MAC, now())


@pytest.mark.namespace
async def test_a_device_that_has_left_is_not_there() -> None:
    with quick_lan() as lan:
        host = lan.host("24:0a:c4:0c:2f:91", "10.77.0.5/24")
        lan.host("08:61:95:00:00:07", "10.77.0.6/24")  # the cable stays plugged in
        async with witnessing() as witness:
            assert await witness.ask("10.77.0.5", INTERFACE, MAC, now())
            host.switch_off()
            await only_believed(lan, "10.77.0.5")
            assert not await by_verdict(witness, "10.77.0.5")


@pytest.mark.namespace
async def test_another_device_at_the_address_is_not_it() -> None:
    with quick_lan() as lan:
        lan.host("08:61:95:00:00:07", "10.77.0.5/24")
        async with witnessing() as witness:
            assert not await by_verdict(witness, "10.77.0.5")
            assert not await by_verdict(witness, "10.77.0.5")


@pytest.mark.namespace
async def test_several_may_ask_for_one_address() -> None:
    with quick_lan() as lan:
        lan.host("24:0a:c4:0c:2f:91", "10.77.0.5/24")
        async with witnessing() as witness:
            asked = (witness.ask("10.77.0.5", INTERFACE, MAC, now()) for _ in range(5))
            assert await asyncio.gather(*asked) == [True] * 5


@pytest.mark.namespace
async def test_a_link_local_neighbour_is_asked_on_its_interface() -> None:
    with quick_lan() as lan:
        host = lan.host("24:0a:c4:0c:2f:91", "10.77.0.5/24")
        host.run("ip", "addr", "add", "fe80::7/64", "dev", INTERFACE, "nodad")
        async with witnessing() as witness:
            await until(lan.has_link_local)
            assert await witness.ask("fe80::7", INTERFACE, MAC, now())


@pytest.mark.namespace
async def test_nothing_can_be_asked_on_an_interface_that_is_down() -> None:
    with quick_lan() as lan:
        lan.unplug()
        async with witnessing() as witness:
            with pytest.raises(OSError, match="unreachable"):
                await witness.ask("10.77.0.5", INTERFACE, MAC, now())
