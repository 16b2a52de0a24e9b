"""What a source asks with: it reaches the helper of such sources, and no other process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from gatewayd.admission.rules import RuleBook
from gatewayd.config import load
from gatewayd.device.secret import Secret
from gatewayd.discovery.helper.client import NOT_RUNNING, DiscoveryHelper
from gatewayd.discovery.helper.connect import connect
from gatewayd.discovery.helper.messages import DiscovererSpec
from gatewayd.discovery.helper.specs import make_discoverer, secret_place, spec_of
from gatewayd.discovery.polled.modbus import Modbus, ModbusSettings
from gatewayd.discovery.polled.snmp import Snmp, SnmpSettings
from gatewayd.errors import ConfigError
from gatewayd.lan_discovery import LanDiscovery, read_all
from gatewayd.plugins import Plugins
from gatewayd.runtime.clock import Clock
from gatewayd.settings.files import ConfigPaths
from gatewayd.testing.contracts.discoverer import RecordingSink
from gatewayd.testing.waiting import until
from tests.support.forked import started
from tests.support.snmp_agent import SWITCH, SnmpAgent, agents
from tests.support.tasks import in_background

FIRST = "127.0.0.2"
COMMUNITY = b"quite-secret"
CONFIG = """
[secretstore.vault]
key = "development-file"
[discovery.mdns]
interfaces = ["nosuch0"]
types = ["_a._tcp"]
[discovery.meters]
kind = "modbus"
hosts = ["10.0.0.7"]
units = [1]
[discovery.printers]
kind = "snmp"
hosts = ["10.0.0.8"]
[discovery.switches]
kind = "snmp"
hosts = ["10.0.0.9"]
community_file = "/etc/gatewayd/community"
"""


def at_info() -> str:
    return "info"


def helper(spec: DiscovererSpec, given: list[Secret]) -> DiscoveryHelper:
    """Return a helper that reads the secret of its source: the last of those that are given."""

    async def secrets() -> Mapping[str, Secret]:
        if not given:
            raise ConfigError("The secret /c cannot be read: it is not there.")
        return {spec.name: given[-1]}

    clock = Clock(asyncio.get_running_loop().time, lambda: 0, lambda: 0.5)
    way = connect(os.environ)
    return DiscoveryHelper([spec], way, lambda: (), frozenset, clock, at_info, secrets=secrets)


@pytest.mark.integration
async def test_a_secret_reaches_the_source_and_is_read_again_when_it_may_have_changed() -> None:
    agent, sink = SnmpAgent(SWITCH, community=COMMUNITY), RecordingSink()
    async with agents((FIRST, agent)) as port:
        given = [Secret(COMMUNITY)]
        client = helper(spec_of("snmp", "snmp", SnmpSettings(hosts=(FIRST,), port=port)), given)
        async with in_background(client.run(sink)):
            await until(lambda: bool(sink.seen))
            (child,) = started()
            for name in ("environ", "cmdline"):
                assert COMMUNITY not in Path(f"/proc/{child}/{name}").read_bytes()
            assert COMMUNITY.decode() not in str(client.counters())

            agent.community = b"another"
            given.append(Secret(b"another"))
            seen = sink.sightings
            client.reread()
            await until(lambda: sink.sightings > seen)
            assert client.counters()["discovery-restarts"] == 1


async def test_a_secret_that_cannot_be_read_is_shown_and_read_again() -> None:
    given: list[Secret] = []
    client = helper(spec_of("snmp", "snmp", SnmpSettings(hosts=(FIRST,))), given)
    async with in_background(client.run(RecordingSink())):
        await until(lambda: bool(client.faults))
        assert client.faults == {
            "snmp": f"{NOT_RUNNING}: The secret /c cannot be read: it is not there"
        }
        given.append(Secret(COMMUNITY))
        await until(lambda: "snmp:entries" in client.counters())


async def test_secrets_are_read_by_the_names_of_their_sources(tmp_path: Path) -> None:
    read: list[tuple[str, Path | None]] = []

    def read_secret(credential: str, file: Path | None) -> Secret:
        read.append((credential, file))
        return Secret(COMMUNITY)

    found = await read_all(read_secret, {"a": ("c", None), "b": ("", tmp_path)})
    assert found == {"a": Secret(COMMUNITY), "b": Secret(COMMUNITY)}
    assert read == [("c", None), ("", tmp_path)]


def test_only_a_source_with_a_place_for_it_is_made_with_a_secret() -> None:
    named = SnmpSettings(hosts=(FIRST,), community_credential="community")
    assert secret_place(named) == ("community", None)
    assert secret_place(SnmpSettings(hosts=(FIRST,))) is None
    assert secret_place(ModbusSettings(hosts=(FIRST,), units=(1,))) is None
    spec = spec_of("meters", "modbus", ModbusSettings(hosts=(FIRST,), units=(1,)))
    assert isinstance(make_discoverer(spec, lambda _: Modbus), Modbus)
    assert isinstance(make_discoverer(spec_of("snmp", "snmp", named), lambda _: Snmp), Snmp)


async def test_sources_with_secrets_have_a_helper_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "gatewayd.toml"
    path.write_text(CONFIG)
    config = await asyncio.to_thread(lambda: load(ConfigPaths.of(path), Plugins.installed()))
    clock = Clock(asyncio.get_running_loop().time, lambda: 0, lambda: 0.5)
    made = LanDiscovery(config, RuleBook(()), _Nowhere(), clock, {})
    assert made._helper is not None
    assert made._with_secrets is not None
    assert made._helper.names == ("mdns", "meters", "printers")
    assert made._with_secrets.names == ("switches",)
    made.reread()  # none of them runs
    assert made.counters()["discovery-restarts"] == 0


class _Nowhere:
    """A `Listener` that is notified of nothing."""

    def seen(self, *_: object) -> None: ...
    def lost(self, *_: object) -> None: ...
    def changed(self, *_: object) -> None: ...
    def merged(self, *_: object) -> None: ...
    def evicted(self, *_: object) -> None: ...
