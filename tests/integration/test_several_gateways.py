"""Real daemons, a real etcd and one cloud: each child has one owner, whatever becomes of others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.account import LOOPBACK
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from script.soaking.site.clouds import CLOUDS
from tests.support.etcd import Cluster, running_etcd
from tests.support.lacking import give_up
from tests.support.several_gateways import (
    again,
    call_site,
    continue_process,
    drain,
    kill_process,
    make_site,
    several_gateways,
    shown_of_site,
    stop_process,
    until_held_once,
)

pytestmark = pytest.mark.integration

OUTBOX = ("org.gatewayd1", "/org/gatewayd1/messages", "org.gatewayd1.Messages")
NAMES = ["gateway-a", "gateway-b", "gateway-c"]
PLANT = ("--children", "8", "--rate", "0")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    if shutil.which("etcd") is None:
        give_up("etcd is not installed")
    with running_etcd() as running:
        yield running


async def ledgers(plant: Site, children: Sequence[str]) -> list[dict[str, Any]]:
    return [await plant.ledger(child) for child in children]


def leases(cluster: Cluster) -> set[str]:
    """Return those that are in force."""
    return set(cluster.control("lease", "list").splitlines()[1:])


async def test_children_change_their_gateway_and_are_registered_once(
    tmp_path: Path, cluster: Cluster
) -> None:
    """A drain, a stop, and then a kill and a pause at once."""
    async with several_gateways(tmp_path, NAMES, cluster, plant_options=PLANT) as sites:
        first, second, third = sites
        children = first.plant["serials"]
        for one in sites:
            await one.start()
        await make_site(sites, NAMES)
        held = await until_held_once(sites, children)
        for one, shards in zip(sites, (22, 21, 21), strict=True):
            await until_owned(one, shards)

        await drain(second)
        held = await until_held_once(sites, children)
        assert 1 not in held.values()
        await call_site(second, "Resume")
        await until_owned(second, 21)

        in_force = leases(cluster)
        assert await third.stop() == 0
        assert len(in_force - leases(cluster)) == 1, "it was revoked, and need not end"
        held = await until_held_once([first, second], children)
        await third.start()
        await until_owned(third, 21)
        await until_held_once(sites, children)
        quiet = await ledgers(first, children)
        assert all(one["registrations"] == 1 for one in quiet)
        assert all(one["takeovers"] == 0 for one in quiet)

        await kill_process(third)
        stop_process(second)
        held = await until_held_once([first], children)
        assert set(held.values()) == {0}
        before = await ledgers(first, children)
        continue_process(second)
        await until_owned(second, 32)
        await until_held_once([first, second], children)
        after = await ledgers(first, children)
        assert all(row["registrations"] == 1 for row in after)
        assert all(row["takeovers"] <= 1 for row in after), "of what a killed one held"
        moved = [a["logins"] - b["logins"] for a, b in zip(after, before, strict=True)]
        assert set(moved) <= {0, 1}, "the one that was paused logged nothing in before it had it"


async def until_owned(one: Site, shards: int) -> None:
    """Return when a gateway shows that it has so many shards."""

    async def owned() -> bool:
        return bool(await shown_of_site(one, "NOwned") == shards)

    await one.until(owned, f"{shards} shards at {one.directory.name}")


async def test_a_gateway_that_finds_no_etcd_is_ready_and_logs_nothing_in(
    tmp_path: Path, cluster: Cluster
) -> None:
    cluster.end()
    async with several_gateways(tmp_path, NAMES[:1], cluster, plant_options=PLANT) as (one,):
        await one.start()
        child = one.plant["serials"][0]
        await one.wait_for(child, "elsewhere")
        assert (await one.describe(child))["Reason"] == "site-unreachable"
        assert all(row["logins"] == 0 for row in await ledgers(one, one.plant["serials"]))
        assert await one.stop() == 0


@pytest.mark.parametrize("kind", ["huawei", "mqtt"])
async def test_a_certificate_or_a_password_changes_hands_with_its_child(
    tmp_path: Path, cluster: Cluster, kind: str
) -> None:
    """Each child has one after the death of its gateway; and the last one is not drained."""
    cloud, plant = CLOUDS[kind](), ("--children", "4", "--rate", "0")
    async with several_gateways(
        tmp_path, NAMES[:2], cluster, plant_options=plant, cloud=kind, route=cloud.route
    ) as sites:
        first, second = sites
        children, product = first.plant["serials"], first.plant["product"]
        for one in sites:
            text = (one.directory / "gatewayd.toml").read_text()
            one.configure(cloud.configuration(text, LOOPBACK), rules(one))
            await one.start()
            await cloud.prepare(one, one.directory.name, first.ask)
        await make_site(sites, NAMES[:2])
        for one in sites:
            await until_owned(one, 32)
        await until_held_once(sites, children)
        await kill_process(first)
        await until_held_once([second], children)
        ledgers = cloud.ledgers((await first.ask(do="truth"))["cloud"], product)
        assert [cloud.issued(ledgers[child]) for child in children] == [1] * len(children)
        assert not any(cloud.refused(one) for one in ledgers.values())
        with pytest.raises(RuntimeError, match="No other gateway of the site lives: 4 children"):
            await drain(second)
        await drain(second, offline=True)
        await until_owned(second, 0)


async def move_is_refused(sites: Sequence[Site], child: str) -> None:
    """Have a child move where it is, which says what to do.  Raises RuntimeError for a while."""
    for one in sites:
        facts = await one.describe(child) if child in await one.devices() else {"State": ""}
        if facts["State"] == "online":
            with pytest.raises(RuntimeError, match=r"in its rule|some sec") as why:
                await one.call("Move", "ssa{sv}", facts["Id"], "plant", "0")
            if f"gatewayctl forget {facts['Id']}" in str(why.value):
                return
    raise RuntimeError("its shard changes hands")


async def forget_former(sites: Sequence[Site], child: str) -> None:
    """Forget a child where it has its name at the first cloud.  Raises RuntimeError for a while."""
    for one in sites:
        facts = await one.describe(child) if child in await one.devices() else {"Provider": ""}
        if facts["Provider"] == "alibaba" and facts["State"] != "elsewhere":
            await one.call("Forget", "s", facts["Id"])
            return
    raise RuntimeError("its shard changes hands")


async def test_what_a_move_to_another_product_is_refused_with_works(
    tmp_path: Path, cluster: Cluster
) -> None:
    """Registered as new ones at the other cloud, each once, by whoever has the shard there."""
    (place := tmp_path / "other").mkdir()
    other = Site(place, plant_options=("--children", "0", "--late", "4"), cloud="mqtt")
    plant = ("--children", "4", "--rate", "0")
    async with (
        other.open(),
        several_gateways(tmp_path, NAMES[:2], cluster, plant_options=plant) as sites,
    ):
        children, product = sites[0].plant["serials"], other.plant["product"]
        added = config(other)
        for one in sites:
            text = (one.directory / "gatewayd.toml").read_text()
            one.configure(text + added[added.index("[cloud.") :], rules(one))
            await one.start()
        await make_site(sites, NAMES[:2])
        for one in sites:
            await until_owned(one, 32)
        await until_held_once(sites, children)
        for child in children:
            await again(partial(move_is_refused, sites, child))

        for one in sites:
            rule = rules(one).replace('provider = "alibaba"', 'provider = "plant"')
            rule = rule.replace(one.plant["product"], product)
            (one.directory / "rules.d" / "10-sensors.toml").write_text(rule)
            await one.call("Reload")
        for child in children:
            await again(partial(forget_former, sites, child))
        for one, other_one in (sites, sites[::-1]):  # which learns what was forgotten
            await drain(one)
            await until_owned(other_one, 64)
            await call_site(one, "Resume")
            await until_owned(one, 32)
        held = await until_held_once(sites, children)
        for child, owner in held.items():
            assert (await sites[owner].describe(child))["Provider"] == "plant"
            assert (await other.ledger(child))["registrations"] == 1
            former = await sites[0].ledger(child)
            assert (former["registrations"], former["online"]) == (1, False)


async def test_what_a_killed_gateway_has_stored_is_sent_when_it_is_back(
    tmp_path: Path, cluster: Cluster
) -> None:
    """By itself, in order, as it gets the shards back of which it owes messages: after what its
    children have said at the other one meanwhile, and each once.
    """
    async with several_gateways(
        tmp_path, NAMES[:2], cluster, plant_options=PLANT, speaks=True
    ) as sites:
        first, second = sites
        children = first.plant["serials"]
        for one in sites:
            await one.start()
        await make_site(sites, NAMES[:2])
        for one in sites:
            await until_owned(one, 32)
        held = await until_held_once(sites, children)
        mine = [child for child in children if held[child] == 0]
        assert 0 < len(mine) < len(children)
        await first.ask(do="faults", plan="down")
        for number in range(5):
            for child in mine:
                await first.say(child, temperature=20 + number)
        await first.until(lambda: _waits(first, 5 * len(mine)), "messages to wait")
        await kill_process(first)
        await first.ask(do="faults", plan="")
        await until_held_once([second], children)
        for number in range(2):
            for child in mine:
                await first.say(child, temperature=40 + number)
        await first.until(lambda: _arrived(first, mine, [40, 41]), "newer ones to be sent")
        await first.start()
        await first.until(lambda: _waits(first, 0), "the messages of before to be sent")
        assert await _arrived(first, mine, [40, 41, *range(20, 25)])
        assert await _waits(second, 0)


async def _arrived(one: Site, children: Sequence[str], values: Sequence[int]) -> bool:
    """Whether these, and no others, have arrived of each child, in this order."""
    for child in children:
        reports = await one.ask(do="reports", child=child)
        if [report["values"]["CurrentTemperature"] for report in reports] != [*values]:
            return False
    return True


async def _waits(one: Site, count: int) -> bool:
    text = await one.busctl("--json=short", "get-property", *OUTBOX, "NWaiting")
    return bool(json.loads(text)["data"] == count)
