"""The story of gatewayd, performed on fakes, on real parts, and in the demo, in the same words.

A world makes things happen, the story checks what must follow.  `SiteWorld` is the world of real
parts: processes, TLS, multicast DNS, D-Bus.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from gatewayd.simulator.alibaba.alink import AlinkCode
from gatewayd.simulator.huawei import account as huawei
from gatewayd.simulator.site import Site

TEMPERATURES = tuple(20.0 + step / 2 for step in range(10))
"""What a child measures while the link to the cloud is down."""
TICK = 1.0
"""Seconds to which a cloud may round a time."""


class Measurement(NamedTuple):
    """A value of a child as the cloud has it.  at: seconds since the epoch."""

    value: float
    at: float


def without_repeats(found: Iterable[Measurement]) -> Sequence[Measurement]:
    """Return the first copy of each value: one under way when a link is cut may come twice."""
    first: dict[float, Measurement] = {}
    for one in found:
        first.setdefault(one.value, one)
    return tuple(first.values())


class StoryWorld(Protocol):
    """A LAN, a gateway and a cloud.  Children are named by the name they announce."""

    admitted: str
    """The name of a child that a rule admits."""
    held: str
    """The name of a child that a rule holds for the operator."""

    async def announce(self, child: str) -> None:
        """Announce a child on the LAN."""

    async def leave(self, child: str) -> None:
        """Let a child say goodbye and go silent."""

    async def wait_for(self, child: str, state: str) -> None:
        """Return when D-Bus shows the child in this state.  Raises TimeoutError."""

    async def approve(self, child: str) -> None:
        """Approve a child, as the operator."""

    async def reject(self, child: str) -> None:
        """Reject a child, as the operator."""

    async def issued(self, child: str) -> int:
        """Return how many secrets the cloud has issued for the child."""

    async def is_online_at_cloud(self, child: str) -> bool:
        """Whether the cloud holds a session of the child."""

    async def say(self, child: str, value: float) -> None:
        """Have a child publish a value; return when its broker has acknowledged it."""

    async def said(self, child: str, count: int) -> Sequence[Measurement]:
        """Return all that the cloud has of a child, in the order of its arrival, without repeats.

        count: how many are waited for.  Raises TimeoutError.
        """

    async def cut(self) -> None:
        """Cut the link to the cloud; return when the admitted child is shown to be offline.

        The cloud itself may learn that later: it is cut off, too.
        """

    async def restore(self) -> None:
        """Restore the link to the cloud."""

    async def rest(self, seconds: float) -> None:
        """Let some time pass."""

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""


async def perform(world: StoryWorld, pace: float = 0.0) -> AsyncIterator[str]:
    """Perform the story; yield each of its sentences once it has come true.

    pace: seconds between two values of a child while the link is down.
    """
    await world.announce(world.admitted)
    await world.wait_for(world.admitted, "online")
    assert await world.is_online_at_cloud(world.admitted)
    assert await world.issued(world.admitted) == 1
    yield "A child that a rule admits is registered and comes online by itself."

    await world.announce(world.held)
    await world.wait_for(world.held, "pending")
    assert await world.issued(world.held) == 0
    yield "A child that no rule admits waits for the operator; the cloud learns nothing of it."

    await world.approve(world.held)
    await world.wait_for(world.held, "online")
    assert await world.issued(world.held) == 1
    yield "Once approved, it is registered and comes online."

    await world.leave(world.admitted)
    await world.wait_for(world.admitted, "offline")
    assert not await world.is_online_at_cloud(world.admitted)
    yield "A child that leaves the LAN goes offline; its secret is kept."

    await world.announce(world.admitted)
    await world.wait_for(world.admitted, "online")
    assert await world.issued(world.admitted) == 1
    yield "Back on the LAN, it logs in with the same secret; the cloud issues no other."

    await world.reject(world.held)
    await world.wait_for(world.held, "rejected")
    assert not await world.is_online_at_cloud(world.held)
    yield "A rejected child goes offline at once, and stays offline until the operator approves it."

    await world.approve(world.held)
    await world.wait_for(world.held, "online")
    assert await world.issued(world.held) == 1
    yield "Once approved, it is online again with the same secret."

    async for sentence in _speak(world, pace):
        yield sentence


async def _speak(world: StoryWorld, pace: float) -> AsyncIterator[str]:
    """Perform what follows once children are online: they speak."""
    child, first = world.admitted, 19.5
    await world.say(child, first)
    assert [one.value for one in await world.said(child, 1)] == [first]
    yield "What a child says is at its cloud."

    began = world.now()
    await world.cut()
    for value in TEMPERATURES:
        await world.say(child, value)
        await world.rest(pace)
    ended = world.now()
    assert len(await world.said(child, 1)) == 1
    yield "While the link to the cloud is down, what it says is kept."

    await world.restore()
    await world.wait_for(child, "online")
    _, *late = await world.said(child, 1 + len(TEMPERATURES))
    assert tuple(one.value for one in late) == TEMPERATURES
    times = [one.at for one in late]
    assert began - TICK <= times[0], "it was measured during the outage"
    assert times[-1] <= ended + TICK
    assert times == sorted(times)
    yield "When the link is back, all of it is at the cloud, in order, with its true time."


Ledger: TypeAlias = Mapping[str, Any]


class SiteWorld:
    """A story world on a site.  Implements StoryWorld.

    admitted: a child on the operator's list.  held: one that is not.  Neither is announced yet.
    """

    def __init__(self, site: Site, admitted: str, held: str) -> None:
        self._site = site
        self.admitted, self.held = admitted, held

    async def announce(self, child: str) -> None:
        await self._site.ask(do="announce", child=child)

    async def leave(self, child: str) -> None:
        await self._site.ask(do="leave", child=child)

    async def wait_for(self, child: str, state: str) -> None:
        """D-Bus shows the state first; the cloud learns the end of a session after that."""
        await self._site.wait_for(child, state)

        async def agrees() -> bool:
            return await self.is_online_at_cloud(child) is (state == "online")

        await self._site.until(agrees, f"the cloud to agree that {child} is {state}")

    async def approve(self, child: str) -> None:
        await self._site.call("Approve", "ss", await self._id(child), "")

    async def reject(self, child: str) -> None:
        await self._site.call("Reject", "ss", await self._id(child), "not ours")

    async def issued(self, child: str) -> int:
        return issued(await self._site.ledger(child))

    async def is_online_at_cloud(self, child: str) -> bool:
        return is_online(await self._site.ledger(child))

    async def say(self, child: str, value: float) -> None:
        await self._site.say(child, temperature=value)

    async def said(self, child: str, count: int) -> Sequence[Measurement]:
        found: Sequence[Measurement] = ()

        async def arrived() -> bool:
            nonlocal found
            found = without_repeats(await measurements(self._site, child))
            return len(found) >= count

        await self._site.until(arrived, f"{count} values of {child} to be at the cloud")
        return found

    async def cut(self) -> None:
        await self._site.ask(do="faults", plan="down")
        await self._site.wait_for(self.admitted, "offline")

    async def restore(self) -> None:
        await self._site.ask(do="faults", plan="")

    async def rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def now(self) -> float:
        return time.time()

    async def _id(self, child: str) -> str:
        return (await self._site.devices())[child][0]


async def set_interval(site: Site, child: str, seconds: int) -> bool:
    """Have the cloud set a child's interval; return whether the child has carried that out."""
    return await _INTERVALS[site.cloud](site, child, seconds)


async def _alibaba_interval(site: Site, child: str, seconds: int) -> bool:
    values = {"ReportInterval": seconds}
    answer = await site.ask(do="set_properties", child=child, values=values)
    return bool(answer["code"] == AlinkCode.SUCCESS)


async def _huawei_interval(site: Site, child: str, seconds: int) -> bool:
    properties = {"interval": seconds}
    answer = await site.ask(do="set", child=child, service="climate", properties=properties)
    return bool(answer["result_code"] == 0)


async def measurements(site: Site, child: str) -> Sequence[Measurement]:
    """Return the temperatures that the cloud has of a child, in the order of their arrival."""
    return await _MEASUREMENTS[site.cloud](site, child)


async def _alibaba_measurements(site: Site, child: str) -> Sequence[Measurement]:
    name = "CurrentTemperature"
    return [
        Measurement(one["values"][name], one["times"][name] / 1000)
        for one in await site.ask(do="reports", child=child)
        if name in one["values"]
    ]


async def _huawei_measurements(site: Site, child: str) -> Sequence[Measurement]:
    return [
        Measurement(one["body"]["temperature"], one["when"])
        for one in await site.ask(do="arrivals", child=child)
        if one["kind"] == "properties" and "temperature" in one["body"]
    ]


async def _mqtt_interval(site: Site, child: str, seconds: int) -> bool:
    answer = await site.ask(do="set", child=child, values={"interval": seconds})
    return bool(answer["ok"])


async def _mqtt_measurements(site: Site, child: str) -> Sequence[Measurement]:
    return [
        Measurement(one["body"]["temperature"], one["body"]["time"] / 1000)
        for one in await site.ask(do="reports", child=child)
        if one["topic"] == "properties" and "temperature" in one["body"]
    ]


async def ledgers(site: Site) -> Mapping[str, Ledger]:
    """Return the cloud's counts of each child of the plant, by serial number."""
    truth = await site.ask(do="truth")
    return _LEDGERS[site.cloud](site, truth["cloud"])


def own_names(site: Site) -> int:
    """Return how many devices of the cloud are the gateway itself; gatewayd counts them too."""
    behind = site.route.startswith("sub-device")
    return len(site.plant["hosts"]) if site.cloud == "huawei" else int(behind)


def issued(ledger: Ledger) -> int:
    """Return how many secrets a cloud has issued to a child, or how often it has registered it.

    Each certificate that a child has shown counts.
    """
    if "secrets_sha256" in ledger:
        return len(ledger["secrets_sha256"])
    shown = len(ledger.get("certificates_sha256", ()))
    return max(shown, int(ledger.get("registrations", 0)))


def is_online(ledger: Ledger) -> bool:
    """Whether the cloud holds a session of the child."""
    return bool(ledger.get("online"))


def _alibaba(site: Site, truth: Mapping[str, Any]) -> dict[str, Ledger]:
    return dict(truth["devices"][site.plant["product"]])


def _huawei(site: Site, truth: Mapping[str, Any]) -> dict[str, Ledger]:
    instances = truth["instances"]
    return {
        child: instances[huawei.home(child)]["devices"].get(huawei.device_id(child), {})
        for child in site.plant["serials"]
    }


def _mqtt(_: Site, truth: Mapping[str, Any]) -> dict[str, Ledger]:
    return dict(truth["devices"])


_LEDGERS: Mapping[str, Callable[[Site, Mapping[str, Any]], dict[str, Ledger]]] = {
    "alibaba": _alibaba,
    "huawei": _huawei,
    "mqtt": _mqtt,
}
_INTERVALS: Mapping[str, Callable[[Site, str, int], Awaitable[bool]]] = {
    "alibaba": _alibaba_interval,
    "huawei": _huawei_interval,
    "mqtt": _mqtt_interval,
}
_MEASUREMENTS: Mapping[str, Callable[[Site, str], Awaitable[Sequence[Measurement]]]] = {
    "alibaba": _alibaba_measurements,
    "huawei": _huawei_measurements,
    "mqtt": _mqtt_measurements,
}
