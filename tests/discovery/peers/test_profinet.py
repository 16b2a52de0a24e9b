"""The link helper and the discoverer of PROFINET on a cable, with the answers of real devices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.discoverer import Context, Discoverer, Interest, LossReason
from gatewayd.discovery.raw_link.frames import LinkEvent, identify_all
from gatewayd.discovery.raw_link.helper import MAX_OF_ONE
from gatewayd.discovery.raw_link.profinet import Profinet, ProfinetSettings, link_client
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.testing.contracts.discoverer import (
    DiscovererTestbed,
    RecordingSink,
    running,
)
from gatewayd.testing.waiting import until
from tests.discovery.peers.dcp_devices import answer
from tests.integration.lan import namespaces
from tests.support.household import household
from tests.support.source_contract import SourceContract

pytestmark = [pytest.mark.namespace, pytest.mark.root]

TOP = Path(__file__).parents[3]
VECTORS = json.loads((TOP / "tests/discovery/protocols/vectors/profinet.json").read_text())
FRAMES = {one["id"]: bytes.fromhex(one["hex"]) for one in VECTORS}
SWITCH, PLC = FRAMES["profinet-dcp-02"], FRAMES["profinet-dcp-04"]
SWITCH_MAC, PLC_MAC = "08000693cf32", "0002e317c750"
REQUEST = FRAMES["profinet-dcp-06"]
LIMIT = 40
Inside = Sequence[str]


class Cable:
    """A cable between the link helper and devices.  path: of the helper's socket."""

    def __init__(self, path: Path, peer: subprocess.Popen[str], gateway: Inside) -> None:
        self.path, self._peer, self.gateway = path, peer, gateway
        self.received: list[bytes] = []

    def command(self, **what: Sequence[bytes]) -> None:
        """Have the peer do something; return when it has."""
        assert self._peer.stdin is not None
        made = {key: [one.hex() for one in frames] for key, frames in what.items()}
        self._peer.stdin.write(json.dumps(made) + "\n")
        self._peer.stdin.flush()
        self.await_line("done")

    def await_line(self, expected: str) -> None:
        """Return when the peer has written a line; keep the frames before it."""
        assert self._peer.stdout is not None
        while (line := self._peer.stdout.readline().strip()) != expected:
            assert line, "the peer has ended"
            self.received.append(bytes.fromhex(line))

    def ip(self, *arguments: str) -> str:
        """Run ip(8) at the gateway; return what it prints."""
        ran = subprocess.run([*self.gateway, "ip", *arguments], check=True, capture_output=True)
        return ran.stdout.decode()

    def mac(self) -> bytes:
        """Return the MAC of the gateway."""
        (link,) = json.loads(self.ip("-json", "link", "show", "lan0"))
        return bytes.fromhex(link["address"].replace(":", ""))

    def discoverer(self, **settings: object) -> Profinet:
        """Return a discoverer that is not yet running."""
        given = {"interfaces": ("lan0",), "helper": str(self.path), "max_entries": LIMIT} | settings
        return Profinet("field", ProfinetSettings(**given))  # type: ignore[arg-type]  # of a test


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    """A cable with the link helper, started by a socket as systemd does, and two devices."""
    path = tmp_path / "link.socket"
    with namespaces() as (gateway, devices):
        activate = ("systemd-socket-activate", "--seqpacket", "--accept", "--inetd", "-l", path)
        helper = subprocess.Popen(
            [*gateway, *activate, sys.executable, "-m", "gatewayd.discovery.raw_link"],
            stderr=subprocess.DEVNULL, cwd=TOP,
        )  # fmt: skip
        peer = subprocess.Popen(
            [*devices, sys.executable, Path(__file__).with_name("dcp_devices.py"), "lan0"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with helper, peer:
            try:
                made = Cable(path, peer, gateway)
                made.await_line("ready")
                made.command(devices=[SWITCH, PLC])
                yield made
            finally:
                helper.terminate()
                peer.terminate()


def renamed(frame: bytes, name: bytes) -> bytes:
    """Return an answer with another name of the same length."""
    assert len(name) == len(b"X208-BORD")
    return frame.replace(b"X208-BORD", name)


async def found(sink: RecordingSink, *keys: str) -> None:
    await until(lambda: set(sink.seen) == set(keys))


async def test_devices_are_found_without_any_address_of_theirs(cable: Cable) -> None:
    async with running(cable.discoverer()) as sink:
        await found(sink, SWITCH_MAC, PLC_MAC)
    switch, plc = sink.seen[SWITCH_MAC], sink.seen[PLC_MAC]
    assert switch.source == "field/lan0"
    assert switch.claims == {Claim("mac", "profinet", SWITCH_MAC)}
    assert switch.addresses == ()
    assert switch.attributes["profinet.name"] == "X208-BORD"
    assert (plc.attributes["model"], plc.label) == ("S7-300EC", "S7-300EC")  # its name is hostile
    assert {one.reason for one in sink.lost} == {LossReason.STOPPED}


async def test_nothing_but_identify_all_is_ever_sent(cable: Cable) -> None:
    discoverer = cable.discoverer()
    async with running(discoverer) as sink:
        await found(sink, SWITCH_MAC, PLC_MAC)
        await discoverer.rescan()
        await discoverer.verify(sink.seen[SWITCH_MAC])
    cable.command()
    assert len(cable.received) >= 2
    for frame in cable.received:
        xid = int.from_bytes(frame[18:22], "big")
        assert frame == identify_all(frame[6:12], xid)
    assert len({frame[18:22] for frame in cable.received}) == len(cable.received)


async def test_a_client_cannot_have_it_ask_often_nor_send_a_frame(cable: Cable) -> None:
    async with link_client(str(cable.path), ["lan0"]) as link:
        began = asyncio.get_running_loop().time()
        for _ in range(100):
            await link.ask(0)
        asked = 0
        while asked < 3:
            report = await link.report(1)
            assert report is not None
            asked += report.event is LinkEvent.ASKED
            await link.ask(0)
        assert asyncio.get_running_loop().time() - began >= 2.9
    cable.command()
    assert len(cable.received) == 3


async def test_a_name_an_address_and_a_restart_leave_it_the_same_child(cable: Cable) -> None:
    cable.command(devices=[SWITCH])
    async with household(cable.discoverer()) as home:
        await home.shows(lambda one: one.label == "X208-BORD")
        cable.command(devices=[])
        other = renamed(SWITCH, b"new-name1").replace(bytes((192, 168, 0, 6)), bytes((10, 7, 7, 7)))
        cable.command(devices=[other])
        shown = await home.shows(lambda one: one.label == "new-name1")
    assert shown.claims == {Claim("mac", "profinet", SWITCH_MAC)}
    assert shown.views[0]["profinet.address"] == "10.7.7.7"


async def test_one_that_is_gone_is_not_there(cable: Cable) -> None:
    discoverer = cable.discoverer()
    async with running(discoverer) as sink:
        await found(sink, SWITCH_MAC, PLC_MAC)
        cable.command(devices=[PLC])
        assert await discoverer.verify(sink.seen[SWITCH_MAC]) is None
        assert await discoverer.verify(sink.seen[PLC_MAC]) is not None


async def test_who_has_answered_what_cannot_be_read_is_in_the_list_of_refusals(
    cable: Cable,
) -> None:
    spoilt = SWITCH[:6] + bytes(6) + SWITCH[12:]  # from no MAC
    cable.command(devices=[spoilt, PLC])
    discoverer = cable.discoverer()
    async with running(discoverer) as sink:
        await found(sink, PLC_MAC)
        await until(lambda: discoverer.health.dropped.get("bad-mac"))
    refused = [one[:2] for one in discoverer.health.refused.take()]
    assert ("bad-mac", ("lan0", "", "00:00:00:00:00:00")) in refused


async def test_what_nobody_has_asked_for_is_not_passed_on(cable: Cable) -> None:
    cable.command(devices=[])
    async with link_client(str(cable.path), ["lan0"]) as link:
        await link.ask(0)
        report = await link.report(1)
        assert report is not None
        assert report.event is LinkEvent.ASKED
        cable.command()
        to = cable.received[-1][6:12]
        unasked = to + SWITCH[6:]  # with the xid of another question
        request = to + REQUEST[6:]
        cable.command(
            send=[unasked, request, REQUEST, to + b"\x02" * 6 + b"\x88\x92", to + bytes(60)]
        )
        cable.command(devices=[SWITCH])
        await link.ask(0)
        events = []
        for _ in range(2):
            report = await link.report(1)
            assert report is not None
            events.append(report.event)
        assert sorted(events) == [LinkEvent.ANSWER, LinkEvent.ASKED]


async def test_one_that_answers_again_and_again_silences_no_other(cable: Cable) -> None:
    cable.command(devices=[])
    async with link_client(str(cable.path), ["lan0"]) as link:
        await link.ask(0)
        report = await link.report(1)
        assert report is not None
        assert report.event is LinkEvent.ASKED
        cable.command()
        noisy, other = (answer(one, cable.received[-1]) for one in (PLC, SWITCH))
        cable.command(send=[*[noisy] * 64, other])
        passed = []
        while SWITCH[6:12] not in passed:
            report = await link.report(1)
            assert report is not None
            passed.append(report.data[6:12])
    assert passed == [*[PLC[6:12]] * MAX_OF_ONE, SWITCH[6:12]]


READ = """
import select, sys
from gatewayd.discovery.raw_link.helper import open_link
with open_link("lan0") as link:
    print("open", flush=True)
    while select.select([link], [], [], 1.0)[0]:
        print(link.recv(2048).hex(), flush=True)
"""
"""Prints what passes the filter of the kernel, until nothing comes for a second."""


def test_the_kernel_passes_answers_to_this_host_alone(cable: Cable) -> None:
    reader = subprocess.Popen([*cable.gateway, sys.executable, "-c", READ], cwd=TOP,
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        to = cable.mac()
        kinds = (14, 15, 16, 17)  # the bytes of FrameID, service and type
        others = [to + SWITCH[6:at] + b"\x07" + SWITCH[at + 1 :] for at in (12, 13, *kinds)]
        away = b"\x02" * 6 + SWITCH[6:]
        cable.command(send=[*others, away, REQUEST, to + SWITCH[6:], to + PLC[6:], to + bytes(8)])
        passed = [bytes.fromhex(line) for line in reader.stdout]
    assert passed == [to + SWITCH[6:], to + PLC[6:12] + PLC[16:]]  # the tag is removed


async def test_an_interface_may_go_and_come_back(cable: Cable) -> None:
    discoverer = cable.discoverer()
    async with running(discoverer) as sink:
        await found(sink, SWITCH_MAC, PLC_MAC)
        cable.ip("link", "set", "lan0", "down")
        with pytest.raises(DiscoveryRetry, match="could not ask on lan0"):
            await discoverer.verify(sink.seen[SWITCH_MAC])
        assert discoverer.health.dropped["no-interface"] >= 1
        cable.ip("link", "set", "lan0", "up")
        verified = None
        async with asyncio.timeout(60.0):  # the other end of the cable may be up later than ours
            while verified is None:
                await asyncio.sleep(0.05)
                with contextlib.suppress(DiscoveryRetry):
                    verified = await discoverer.verify(sink.seen[SWITCH_MAC])
        assert not sink.lost


async def test_an_interface_that_is_missing_has_no_other_asked_more_often(
    cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatewayd.discovery.raw_link.profinet.RETRY", 0.1)
    discoverer = cable.discoverer(interfaces=("lan0", "none0"))
    async with running(discoverer) as sink:
        await found(sink, SWITCH_MAC, PLC_MAC)
        await until(lambda: discoverer.health.dropped.get("no-interface", 0) >= 2)
    cable.command()
    assert len(cable.received) == 1


async def ended(discoverer: Profinet) -> str:
    """Return why a discoverer has ended by itself."""
    loop = asyncio.get_running_loop()
    context = Context(loop.time, lambda: 0.5, lambda _: Interest.WANTED)
    with pytest.raises(DiscoveryRetry) as retry:
        async with asyncio.timeout(60):
            await discoverer.run(context, RecordingSink())
    return str(retry.value)


async def test_what_is_wrong_is_said_with_a_remedy(cable: Cable, tmp_path: Path) -> None:
    assert await ended(cable.discoverer(helper=str(tmp_path / "none"))) == (
        "field: the link helper cannot be used: No such file or directory; "
        "run systemctl start gatewayd-link.socket"
    )
    assert await ended(cable.discoverer(interfaces=("lan7",))) == (
        "field: lan7 cannot be used: No such device; bring it up, or name others under interfaces"
    )
    assert "lo cannot be used: Address family not supported" in await ended(
        cable.discoverer(interfaces=("lo",))
    )
    with pytest.raises(ConfigError, match="at most 16"):
        cable.discoverer(interfaces=tuple(f"lan{number}" for number in range(17)))


class ProfinetTestbed:
    """The discoverer, and two devices."""

    count, limit = 2, LIMIT

    def __init__(self, cable: Cable) -> None:
        self._cable = cable
        self.discoverer: Discoverer = cable.discoverer()

    async def remove(self, key: str) -> bool:
        await self._put(*(one for one in (SWITCH, PLC) if key not in one.hex()))
        return True

    async def abuse(self) -> None:
        """Answer as 3,000 devices, and with what is no answer."""
        untagged = SWITCH[:6] + b"\0\x0e\x8c%b" + SWITCH[12:]
        flood = [untagged.replace(b"%b", number.to_bytes(3, "big")) for number in range(3000)]
        torn = [SWITCH[:length] for length in range(30, len(SWITCH), 7)]
        await self._put(SWITCH, PLC, *torn, *flood)
        await self.discoverer.rescan()
        await until(lambda: self.discoverer.health.dropped.get("table-full", 0) > LIMIT)
        await self._put(SWITCH, PLC)

    async def _put(self, *devices: bytes) -> None:
        await asyncio.to_thread(self._cable.command, devices=devices)


class TestProfinet(SourceContract):
    @pytest.fixture(autouse=True)
    def lay(self, cable: Cable) -> None:
        self._cable = cable

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[DiscovererTestbed]:
        yield ProfinetTestbed(self._cable)
