"""SNMP on a cable: agents of Net-SNMP that are renamed, restarted and moved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim, Trust
from gatewayd.device.secret import Secret
from gatewayd.discovery.polled.snmp import Snmp, SnmpSettings
from gatewayd.testing.contracts.discoverer import running
from tests.support.cable import CHILD, INTERFACE, MOVED, Cable, laid
from tests.support.far_server import VENDOR_MAC, FarServer, asked_until, far_server
from tests.support.household import household

pytestmark = [pytest.mark.namespace, pytest.mark.root]

SERIAL = "1.3.6.1.2.1.47.1.1.1.1.11.1"
PRINTER_SERIAL = "1.3.6.1.2.1.43.5.1.1.17.1"
ANYONE = "rocommunity public default\n"
OLD_ONLY = """\
com2sec reader default public
group readers v1 reader
view all included .1
access readers "" v1 noauth exact all none none
"""
"""An agent that speaks version 1 alone."""


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


class Agent:
    """An agent, with its configuration in a directory of its own."""

    def __init__(self, server: FarServer, directory: Path) -> None:
        self.server, self._directory = server, directory

    async def start(self, name: str, *more: str, access: str = ANYONE) -> None:
        """Start it, or start it again.  more: lines of its configuration."""
        path = self._directory / "snmpd.conf"
        lines = (access, f"sysName {name}\nsysDescr Demo switch\nsysObjectID 1.3.6.1.4.1.9.1.1\n")
        path.write_text("".join(lines) + "\n".join(more) + "\n")
        await self.server.start(
            "snmpd", "-f", "-Lo", "-C", "-c", str(path), f"udp:{self.server.address}:161",
            ready=b"NET-SNMP version",
        )  # fmt: skip


@pytest.fixture
async def agent(cable: Cable, tmp_path: Path) -> AsyncIterator[Agent]:
    async with far_server(cable) as one:
        yield Agent(one, tmp_path)


def discoverer(secret: Secret | None = None) -> Snmp:
    return Snmp("snmp", SnmpSettings(hosts=(CHILD, MOVED)), secret, gap=0.1)


async def test_a_switch_stays_one_child_renamed_restarted_and_elsewhere(agent: Agent) -> None:
    serial = f"override {SERIAL} octet_str FOC1234X56Y"
    await agent.start("switch-7", serial)
    async with household(discoverer()) as home:
        first = await home.shows(lambda one: one.label == "switch-7")
        assert Claim("serial", "snmp.9", "foc1234x56y") in first.claims
        assert first.views[0]["snmp.descr"] == "Demo switch"

        await agent.start("switch-8", serial)
        await home.shows(lambda one: one.label == "switch-8")

        await agent.server.stop()
        agent.server.move()
        await agent.start("switch-8", serial)
        last = await home.shows(lambda one: MOVED in one.addresses)
        assert not last.conflict


async def test_the_kernel_and_the_agent_agree_on_a_mac(cable: Cable, agent: Agent) -> None:
    cable.far_ip("link", "set", INTERFACE, "address", VENDOR_MAC)
    await agent.start("switch-7")
    async with household(discoverer()) as home:
        shown = await home.shows(lambda one: one.trust is Trust.CORROBORATED)
        digits = VENDOR_MAC.replace(":", "")
        assert {Claim("mac", "l2", digits), Claim("mac", "snmp", digits)} <= shown.claims


async def test_an_old_printer_is_found_by_version_1(agent: Agent) -> None:
    serial = f"override {PRINTER_SERIAL} octet_str PR0042"
    await agent.start("printer", serial, access=OLD_ONLY)
    made = discoverer()
    async with running(made) as sink:
        await asked_until(made, lambda: sink.seen)
    (seen,) = sink.seen.values()
    assert seen.attributes["snmp.version"] == "1"
    assert Claim("serial", "snmp.9", "pr0042") in seen.claims


async def test_an_agent_is_asked_with_the_community_of_the_operator(agent: Agent) -> None:
    await agent.start("switch-7", access="rocommunity other default\n")
    made = discoverer(Secret(b"other"))
    async with running(made) as sink:
        await asked_until(made, lambda: sink.seen)
