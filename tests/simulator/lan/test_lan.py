"""The LAN on real loopback multicast.  python-zeroconf, which shares no code with it, is the judge.

Each test has a service type of its own, and each run hosts of its own: others may use multicast
DNS on this machine meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from gatewayd.simulator.lan.child import LanChild, fleet
from gatewayd.simulator.lan.dns import PTR, DnsMessage, DnsQuestion, decode, encode, name
from gatewayd.simulator.lan.lan import LanPresence, SimulatedLan
from gatewayd.simulator.lan.records import records
from gatewayd.testing.waiting import until

PATIENCE = 60.0
SEED = secrets.randbits(32)
NETWORK = f"127.{secrets.randbelow(200) + 16}.0.0/16"


@pytest.fixture
def service() -> str:
    return f"_t{secrets.token_hex(5)}._tcp.local"


@dataclass
class Judge:
    """What python-zeroconf believes about one service type."""

    zeroconf: AsyncZeroconf
    service: str
    names: set[str] = field(default_factory=set)
    updated: set[str] = field(default_factory=set)

    def note(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        instance = name.removesuffix(f".{self.service}.")
        if state_change is ServiceStateChange.Added:
            self.names.add(instance)
        elif state_change is ServiceStateChange.Removed:
            self.names.discard(instance)
        else:
            self.updated.add(instance)

    async def resolve(self, child: LanChild) -> dict[str, object]:
        info = AsyncServiceInfo(f"{self.service}.", f"{child.instance}.{self.service}.")
        assert await info.async_request(self.zeroconf.zeroconf, PATIENCE * 1000)
        text = {key.decode(): value.decode() for key, value in info.properties.items()}
        return text | {"addresses": info.parsed_addresses(), "port": info.port}


@pytest_asyncio.fixture
async def judge(service: str) -> AsyncIterator[Judge]:
    zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    judge = Judge(zeroconf, service)
    browser = AsyncServiceBrowser(zeroconf.zeroconf, f"{service}.", handlers=[judge.note])
    yield judge
    await browser.async_cancel()
    await zeroconf.async_close()


def lan_of(
    n: int, service: str, *, late: Sequence[tuple[float, LanChild]] = (), listen: bool = False
) -> SimulatedLan:
    rng = random.Random(5)  # play
    children = fleet(n, SEED, network=NETWORK, service=service)
    return SimulatedLan(children, rng=rng, late=late, spread=0.2, listen=listen)


def instances(lan: SimulatedLan) -> set[str]:
    return {
        found["instance"]
        for found in lan.truth()["children"]
        if found["presence"] == LanPresence.PRESENT
    }


async def test_all_children_are_found_and_resolved(service: str, judge: Judge) -> None:
    async with lan_of(20, service) as lan:
        await until(lambda: judge.names == instances(lan))
        for child in map(lan.child, range(20)):
            found = await judge.resolve(child)
            assert found["addresses"] == [child.address]
            assert found["port"] == child.port
            assert (found["serial"], found["mac"]) == (child.serial, child.mac)
            assert found["model"] == "TH-20"


async def test_children_that_announced_long_ago_answer(service: str) -> None:
    async with lan_of(20, service) as lan:
        await until(lambda: lan.counters.sent >= 40)
        zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
        judge = Judge(zeroconf, service)
        browser = AsyncServiceBrowser(zeroconf.zeroconf, f"{service}.", handlers=[judge.note])
        await until(lambda: judge.names == instances(lan))
        await browser.async_cancel()
        await zeroconf.async_close()


async def test_a_goodbye_is_noticed_and_a_death_is_not(service: str, judge: Judge) -> None:
    async with lan_of(3, service) as lan:
        await until(lambda: judge.names == instances(lan))
        lan.die(1)
        lan.leave(0)
        await until(lambda: len(judge.names) == 2)
        assert judge.names == {lan.child(1).instance, lan.child(2).instance}
        lan.rejoin(0)
        await until(lambda: lan.child(0).instance in judge.names)


async def test_a_new_name_replaces_the_old_one(service: str, judge: Judge) -> None:
    async with lan_of(2, service) as lan:
        await until(lambda: judge.names == instances(lan))
        serial = lan.child(0).serial
        lan.rename(0, "Küche: 3.14 °C")
        await until(lambda: judge.names == instances(lan))
        assert "Küche: 3.14 °C" in judge.names
        assert (await judge.resolve(lan.child(0)))["serial"] == serial


async def test_a_new_address_is_announced(service: str, judge: Judge) -> None:
    async with lan_of(1, service) as lan:
        await until(lambda: judge.names == instances(lan))
        lan.move(0, "127.1.9.9")
        await until(lambda: lan.child(0).instance in judge.updated)
        assert "127.1.9.9" in str((await judge.resolve(lan.child(0)))["addresses"])


async def test_a_clone_has_the_serial_and_nothing_else(service: str, judge: Judge) -> None:
    async with lan_of(2, service) as lan:
        twin = lan.clone(0)
        await until(lambda: judge.names == instances(lan))
        assert len(judge.names) == 3
        one, two = await judge.resolve(lan.child(0)), await judge.resolve(lan.child(twin))
        assert one["serial"] == two["serial"]
        assert one["mac"] != two["mac"]
        assert one["addresses"] != two["addresses"]
        assert [found["clone_of"] for found in lan.truth()["children"]] == [None, None, 0]


async def test_some_come_later(service: str, judge: Judge) -> None:
    later = fleet(3, SEED + 1, network="127.1.7.0/24", service=service)
    async with lan_of(1, service, late=[(0.3, later[0]), (3600, later[1])]) as lan:
        assert lan.add(later[2]) == 3
        expected = {lan.child(number).instance for number in (0, 1, 3)}
        await until(lambda: judge.names == expected)
        presences = [found["presence"] for found in lan.truth()["children"]]
        assert presences == ["present", "present", "late", "present"]


@pytest.fixture
def plain() -> Iterator[socket.socket]:
    """A socket as a resolver of unicast DNS has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.setblocking(False)
        plain.bind(("127.0.0.1", 0))
        interface = socket.inet_aton("127.0.0.1")
        plain.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        yield plain


async def ask(plain: socket.socket, query: DnsMessage) -> tuple[DnsMessage, tuple[str, int]]:
    """Return the first answer, and who gave it."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        await loop.sock_sendto(plain, encode(query), ("224.0.0.251", 5353))
        packet, sender = await loop.sock_recvfrom(plain, 9000)
    return decode(packet), sender


async def test_only_what_the_asker_does_not_know_is_answered(
    service: str, plain: socket.socket
) -> None:
    async with lan_of(20, service) as lan:
        pointers = [records(lan.child(number))[0] for number in range(20)]
        query = DnsMessage((DnsQuestion(name(service), PTR),), tuple(pointers[1:]), id=99)
        answer, sender = await ask(plain, query)
        assert [record.data for record in answer.answers] == [pointers[0].data]
        assert answer.id == 99
        assert sender == (lan.child(0).address, 5353)
        assert lan.counters.suppressed == 19


async def test_known_answers_are_not_sent_again(service: str, judge: Judge) -> None:
    async with lan_of(20, service) as lan:
        await until(lambda: judge.names == instances(lan))
        zeroconf = judge.zeroconf.zeroconf
        browser = AsyncServiceBrowser(zeroconf, f"{service}.", handlers=[judge.note])
        await until(lambda: lan.counters.suppressed >= 20)
        await browser.async_cancel()


async def test_a_listening_child_sends_its_identity(service: str) -> None:
    async with lan_of(2, service, listen=True) as lan:
        for number in (0, 1):
            child = lan.child(number)
            reader, writer = await asyncio.open_connection(child.address, child.port)
            found = json.loads(await reader.read())
            writer.close()
            await writer.wait_closed()
            assert found == {"serial": child.serial, "mac": child.mac, "model": child.model}
        lan.die(0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(lan.child(0).address, lan.child(0).port)


async def test_a_child_whose_address_is_not_ours_cannot_listen(service: str) -> None:
    async with lan_of(2, service, listen=True) as lan:
        with pytest.raises(OSError, match="assign"):
            lan.move(0, "192.0.2.77")
        with pytest.raises(OSError, match="assign"):
            lan.add(fleet(1, 1, network="192.0.2.64/29")[0])
        presences = [found["presence"] for found in lan.truth()["children"]]
        assert presences == ["dead", "present", "dead"]


async def test_a_start_that_fails_leaves_nothing_behind(service: str) -> None:
    strangers = fleet(1, 1, network="192.0.2.64/29", service=service)
    rng = random.Random(1)  # play
    lan = SimulatedLan(strangers, rng=rng, listen=True)
    with pytest.raises(OSError, match="assign"):
        lan.start()
    lan.stop()


async def test_the_truth_is_a_file_that_is_never_half_written(service: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text("old")
    async with lan_of(3, service) as lan:
        lan.leave(1)
        await lan.write_truth(path)
        found = json.loads(path.read_text())
        assert found == lan.truth()
    assert os.listdir(tmp_path) == ["truth.json"]  # noqa: PTH208  # ASYNC240 forbids the other
    assert found["interface"] == "127.0.0.1"
    assert [child["presence"] for child in found["children"]] == ["present", "left", "present"]
    assert found["children"][0]["serial"] == lan.child(0).serial


async def test_devices_can_be_changed_while_off_and_a_lan_restarted(
    service: str, judge: Judge
) -> None:
    lan = lan_of(2, service)
    async with lan:
        lan.die(0)
        lan.move(0, "127.1.9.9")
        await until(lambda: judge.names == {lan.child(1).instance})
        assert instances(lan) == {lan.child(1).instance}
    async with lan:
        lan.rejoin(0)
        await until(lambda: judge.names == instances(lan))
        assert (await judge.resolve(lan.child(0)))["addresses"] == ["127.1.9.9"]
