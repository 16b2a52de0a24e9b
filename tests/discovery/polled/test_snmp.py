"""The discoverer of SNMP, against agents on the loopback interface that answer well and badly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim
from gatewayd.device.secret import Secret
from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.polled.snmp import (
    MOST_SILENCES,
    MOST_STRAY,
    OLD_FOR,
    TRIES,
    Snmp,
    SnmpSettings,
)
from gatewayd.discovery.protocols.snmp import ber
from gatewayd.discovery.protocols.snmp.identity import (
    DESCRIPTION,
    DETAILS,
    NAME,
    OBJECT_ID,
    SERIAL,
)
from gatewayd.discovery.protocols.snmp.messages import SnmpVersion
from gatewayd.errors import ConfigError
from gatewayd.testing.contracts.discoverer import DiscovererTestbed, running
from gatewayd.testing.waiting import until
from tests.support.listed_hosts import HostsBed
from tests.support.snmp_agent import SWITCH, SnmpAgent, agents
from tests.support.source_contract import SourceContract

pytestmark = pytest.mark.integration

FIRST, SECOND = "127.0.0.2", "127.0.0.3"
PACE = 0.02


def discoverer(port: int, *addresses: str, secret: Secret | None = None) -> Snmp:
    return Snmp("snmp", SnmpSettings(hosts=addresses or (FIRST,), port=port), secret, gap=PACE)


@asynccontextmanager
async def two_switches() -> AsyncIterator[HostsBed]:
    silent = frozenset((NAME, SERIAL))
    found = {FIRST: SnmpAgent(SWITCH), SECOND: SnmpAgent(SWITCH)}

    async def silence(address: str) -> None:
        found[address].ignored = silent

    async def hurt() -> None:
        found[FIRST].objects = {NAME: b"\x04\x84\xff\xff\xff\xff", OBJECT_ID: b"\x06\x01\x80"}

    async with agents(*found.items()) as port:
        yield HostsBed(discoverer(port, FIRST, SECOND), 2, 64, silence, hurt)


class TestContract(SourceContract):
    def make_testbed(self) -> AbstractAsyncContextManager[DiscovererTestbed]:
        return two_switches()


async def test_an_agent_is_asked_by_the_newer_version() -> None:
    agent = SnmpAgent(SWITCH)
    async with agents((FIRST, agent)) as port:
        made = discoverer(port)
        async with running(made) as sink:
            await until(lambda: bool(sink.seen))
    (seen,) = sink.seen.values()
    assert (seen.key, seen.interface, seen.label) == (FIRST, "lo", "switch-7")
    assert seen.claims == {Claim("serial", "snmp.9", "foc1234x56y")}
    assert seen.attributes["model"] == "WS-1"
    assert [version for version, _ in agent.asked] == 2 * [SnmpVersion.V2C]
    planned = [one.size for one in made.transmissions()[:2]]
    assert all(sent >= size for sent, size in zip(agent.sizes, planned, strict=True))
    assert not made.health.dropped


async def test_an_old_agent_is_asked_by_the_older_version_object_by_object() -> None:
    agent = SnmpAgent({**SWITCH, DESCRIPTION: ber.element(4, b"x")}, frozenset({SnmpVersion.V1}))
    async with agents((FIRST, agent)) as port:
        made = discoverer(port)
        async with running(made) as sink:
            await until(lambda: bool(sink.seen))
            asked = [version for version, _ in agent.asked]
            assert asked == TRIES * [1] + (1 + len(DETAILS)) * [0]
            assert (await made.verify(sink.seen[FIRST])) is not None
    assert not any(version for version, _ in agent.asked[len(asked) :])  # it is known by then
    (seen,) = sink.seen.values()
    assert seen.claims == {Claim("serial", "snmp.9", "foc1234x56y")}
    assert seen.attributes["snmp.version"] == "1"


async def version_of(made: Snmp, known: Sighting) -> str:
    """Verify a device; return the version in which it has answered."""
    found = await made.verify(known)
    assert found is not None
    return found.attributes["snmp.version"]


async def test_an_agent_that_was_slow_once_is_asked_by_the_newer_version_again() -> None:
    agent = SnmpAgent({**SWITCH, DESCRIPTION: ber.element(4, b"x")}, frozenset({SnmpVersion.V1}))
    async with agents((FIRST, agent)) as port:
        made = discoverer(port)
        async with running(made) as sink:
            await until(lambda: bool(sink.seen))
            agent.versions = frozenset(SnmpVersion)
            versions = [await version_of(made, sink.seen[FIRST]) for _ in range(OLD_FOR)]
            assert versions == [*(OLD_FOR - 1) * ["1"], "2c"]


async def test_an_agent_that_answers_by_an_error_is_asked_object_by_object() -> None:
    agent = SnmpAgent(SWITCH, whole=True)
    async with agents((FIRST, agent)) as port, running(discoverer(port)) as sink:
        await until(lambda: bool(sink.seen))
    assert next(iter(sink.seen.values())).attributes["serial"] == "FOC1234X56Y"


async def test_an_agent_that_is_silent_about_details_is_found_without_them_at_last() -> None:
    agent = SnmpAgent(SWITCH, ignored=frozenset(DETAILS))
    async with agents((FIRST, agent)) as port:
        made = discoverer(port)
        async with running(made) as sink:
            for visits in range(1, MOST_SILENCES):
                await until(lambda visits=visits: len(agent.asked) == visits * (1 + TRIES))  # type: ignore[misc]  # bound early
                await made.rescan()
            assert not sink.seen
            await until(lambda: bool(sink.seen))
            assert not sink.seen[FIRST].claims
            agent.ignored = frozenset()
            await made.rescan()
            await until(lambda: bool(sink.seen[FIRST].claims))
            agent.ignored = frozenset(DETAILS)  # a lost answer takes nothing away
            assert await made.verify(sink.seen[FIRST]) is None


async def test_answers_to_other_questions_are_passed_over_within_a_bound() -> None:
    few, many = SnmpAgent(SWITCH, stray=MOST_STRAY - 1), SnmpAgent(SWITCH, stray=MOST_STRAY)
    async with agents((FIRST, few), (SECOND, many)) as port:
        made = discoverer(port, FIRST, SECOND)
        async with running(made) as sink:
            await until(lambda: bool(sink.seen) and bool(made.health.dropped))
    assert set(sink.seen) == {FIRST}
    assert made.health.dropped == {"endless": 1}


async def test_an_answer_that_comes_twice_is_none_to_the_next_question() -> None:
    agent = SnmpAgent(SWITCH, repeated=3)
    async with agents((FIRST, agent)) as port, running(discoverer(port)) as sink:
        await until(lambda: bool(sink.seen))
    assert sink.seen[FIRST].attributes["serial"] == "FOC1234X56Y"


async def test_a_host_without_an_agent_is_asked_again_in_the_next_round() -> None:
    async with agents((FIRST, SnmpAgent(SWITCH))) as port:
        made = discoverer(port, SECOND, FIRST)
        async with running(made) as sink:
            await until(lambda: bool(sink.seen))
    assert not made.health.dropped  # an answer that nothing is there is no refusal


async def test_the_community_is_that_of_the_operator() -> None:
    agent = SnmpAgent(SWITCH, community=b"m\xfcnchen")
    async with agents((FIRST, agent)) as port:
        made = discoverer(port, secret=Secret(b"m\xfcnchen"))
        async with running(made) as sink:
            await until(lambda: bool(sink.seen))


async def test_an_agent_of_which_nothing_is_there_is_counted() -> None:
    async with agents((FIRST, SnmpAgent({}))) as port:
        made = discoverer(port)
        async with running(made) as sink:
            await until(lambda: bool(made.health.dropped))
    assert made.health.dropped == {"nothing-shown": 1}
    assert not sink.seen


def test_a_community_that_is_too_long_is_refused() -> None:
    with pytest.raises(ConfigError, match="may have 255") as caught:
        Snmp("snmp", SnmpSettings(hosts=(FIRST,)), Secret(b"x" * 256))
    assert "xx" not in str(caught.value)


def test_two_places_of_a_community_are_refused() -> None:
    both = SnmpSettings(hosts=(FIRST,), community_credential="c", community_file=Path("/f"))
    assert list(both.problems()) == [
        "there are both community_credential and community_file: leave one out"
    ]


def test_the_plan_does_not_show_the_community() -> None:
    made = Snmp("snmp", SnmpSettings(hosts=(FIRST,)), Secret(b"quite-secret"))
    shown = str(list(made.transmissions()))
    assert "127.0.0.2 port 161 by UDP" in shown
    assert "quite" not in shown
