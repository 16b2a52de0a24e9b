"""Thousands of children behind a gateway speak at once, at a cloud's own limits, through an outage.

The provider, the relay and its outbox are real, and so is TLS; the clouds are simulated, with the
vendors' limits of messages, above which they discard in silence.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gatewayd.cloud.provider import Session
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.messages.intake import IncomingMessage
from gatewayd.messages.outbox.arrival import ArrivalClock
from gatewayd.messages.relay import ChildStanding, MessageRelay
from gatewayd.messages.settings import MessageSettings
from gatewayd.runtime.clock import Clock, wall_time
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.huawei.options import HuaweiRules
from tests.cloud.alibaba import site as alibaba
from tests.cloud.alibaba.speaking import TSL
from tests.cloud.huawei import site as huawei
from tests.cloud.huawei.speaking import furnish_models

DOOR = "fleet"
LOGINS = 200
"""Children that log in at a time, at most."""
STANDSTILL = 60.0
"""Seconds in which nothing arrives, after which the rest is taken for lost."""
POLL = 0.2
_RSS = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)

Arrived = Mapping[int, Sequence[int]]
"""What is at the cloud, in its order, by the number of its child; repeats included."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Children behind one gateway, known at the cloud.

    say: the payload of a value.  log_in, lose: the link of the gateway.
    connect: opens the session of a child.  refused: what the cloud has discarded, by cause.
    """

    count: int
    say: Callable[[int], bytes]
    log_in: Callable[[], Awaitable[None]]
    lose: Callable[[], Awaitable[None]]
    connect: Callable[[int], Awaitable[Session]]
    arrived: Callable[[], Arrived]
    refused: Callable[[], Mapping[str, int]]


@dataclass(slots=True)
class FleetTally:
    """What was counted.  wrong: a sentence for each law that was broken.

    before, peak: MB of this process, in which the cloud is, too.
    """

    said: int = 0
    arrived: int = 0
    repeats: int = 0
    seconds: float = 0.0
    before: float = 0.0
    peak: float = 0.0
    wrong: list[str] = field(default_factory=list)


async def speak(fleet: Fleet, directory: Path, values: int) -> FleetTally:
    """Have each child say so many values at once, and cut the gateway off in the middle."""
    tally, loop = (
        FleetTally(said=fleet.count * values, before=_memory()),
        asyncio.get_running_loop(),
    )
    children = [DeviceId(f"child-{number:012x}") for number in range(fleet.count)]
    relay = _relay(directory)
    await relay.open([DOOR])
    tasks = [asyncio.ensure_future(service()) for service in relay.services()]
    try:
        await _open_sessions(fleet, relay, children)
        began = loop.time()
        for value in range(values):
            for child in children:
                message = IncomingMessage(DOOR, child, "properties", fleet.say(value))
                relay.offer(message, lambda _: None)
            await asyncio.sleep(0)
        await _until(fleet, tally, tally.said // 3)
        await fleet.lose()
        for child in children:
            relay.delivery.session_closed(child)
        await fleet.log_in()
        await _open_sessions(fleet, relay, children)
        await _until(fleet, tally, tally.said)
        tally.seconds = loop.time() - began
    finally:
        await cancel_and_wait(tasks)
        await relay.aclose()
    _judge(fleet, tally, values)
    return tally


def _relay(directory: Path) -> MessageRelay:
    standing = ChildStanding(lambda _: True, lambda _: False, lambda _: "cloud")
    clock = Clock(asyncio.get_running_loop().time, wall_time)
    arrival = ArrivalClock(wall_time, is_right=lambda: True)
    return MessageRelay(MessageSettings(enabled=True), directory, standing, clock, arrival=arrival)


async def _open_sessions(fleet: Fleet, relay: MessageRelay, children: Sequence[DeviceId]) -> None:
    turns = asyncio.Semaphore(LOGINS)

    async def open_session(number: int) -> None:
        async with turns:
            session = await fleet.connect(number)
        relay.delivery.session_opened(children[number], session)

    await asyncio.gather(*map(open_session, range(fleet.count)))


async def _until(fleet: Fleet, tally: FleetTally, count: int) -> None:
    """Return when so many values have arrived, or none comes any more."""
    loop, before = asyncio.get_running_loop(), -1
    last = loop.time()
    while True:
        tally.peak = max(tally.peak, _memory())
        now = sum(len(set(own)) for own in fleet.arrived().values())
        if now > before:
            before, last = now, loop.time()
        if now >= count or loop.time() - last > STANDSTILL:
            return
        await asyncio.sleep(POLL)


def _judge(fleet: Fleet, tally: FleetTally, values: int) -> None:
    arrived = fleet.arrived()
    for number in range(fleet.count):
        own = arrived.get(number, ())
        first = list(dict.fromkeys(own))
        tally.arrived += len(first)
        tally.repeats += len(own) - len(first)
        if first != list(range(values)):
            tally.wrong.append(f"child {number}: {first} in place of {values} values in order")
    tally.wrong += [f"{count} {cause}" for cause, count in fleet.refused().items() if count]


def _memory() -> float:
    """Return MB that this process has in memory.  Reads a file of the kernel's, which is quick."""
    found = _RSS.search(Path("/proc/self/status").read_text())
    return int(found[1]) / 1000 if found else 0.0


@asynccontextmanager
async def at_huawei(folder: Path, count: int) -> AsyncIterator[Fleet]:
    """A fleet at Huawei: 50 messages and 1 MB in a second, 100 children in one."""
    await asyncio.to_thread(huawei.furnish, folder)
    rules, own = HuaweiRules(status_rate=0), {"status_per_second": 10_000}
    async with huawei.site(folder, rules, own, services={huawei.SENSORS: "climate"}) as one:
        furnish_models(one.instance)
        names = [huawei.child(number) for number in range(count)]
        secrets = await _register(one.secret, names)
        numbers = {huawei.child_id(number): number for number in range(count)}

        def arrived() -> Arrived:
            found = defaultdict[int, list[int]](list)
            for arrival in one.instance.arrivals.all():
                assert not isinstance(arrival.body, bytes), "all of them say properties"
                found[numbers[arrival.device_id]].append(int(str(arrival.body["n"])))
            return found

        def refused() -> Mapping[str, int]:
            truth: Any = one.cloud.truth()
            devices = truth["instances"][huawei.INSTANCE]["devices"]
            return {
                "throttled": devices[huawei.OWN_ID]["throttled"],
                "discarded": sum(sum(own["discards"].values()) for own in devices.values()),
            }

        yield Fleet(
            count,
            lambda value: json.dumps({"n": value}).encode(),
            one.log_in,
            one.lose_link,
            lambda number: one.provider.connect(names[number], secrets[number]),
            arrived,
            refused,
        )


@asynccontextmanager
async def at_alibaba(folder: Path, count: int) -> AsyncIterator[Fleet]:
    """A fleet at Alibaba Cloud: 10 messages in a second, 20 children in one."""
    await asyncio.to_thread(alibaba.furnish, folder)
    rules = AlibabaRules(child_logins=0, logins=0, kept=10_000)
    async with alibaba.site(folder, rules, children=count) as one:
        one.cloud.set_model(alibaba.SENSORS, TSL)
        names = [alibaba.child(number) for number in range(count)]
        secrets = await _register(one.secret, names)

        def arrived() -> Arrived:
            found: list[list[Any]] = [one.cloud.reports(*alibaba.at_cloud(name)) for name in names]
            return {
                number: [int(report["values"]["Number"]) for report in own]
                for number, own in enumerate(found)
            }

        def refused() -> Mapping[str, int]:
            truth: Any = one.cloud.truth()
            devices = [*truth["devices"][alibaba.SENSORS].values(), one.ledger_of_gateway]
            return {"discarded": sum(sum(own["discarded"].values()) for own in devices)}

        yield Fleet(
            count,
            lambda value: json.dumps({"Number": value}).encode(),
            one.log_in,
            one.lose_link,
            lambda number: one.provider.connect(names[number], secrets[number]),
            arrived,
            refused,
        )


async def _register(
    secret: Callable[[CloudName], Awaitable[Secret]], names: Sequence[CloudName]
) -> Sequence[Secret]:
    turns = asyncio.Semaphore(LOGINS)

    async def register(name: CloudName) -> Secret:
        async with turns:
            return await secret(name)

    return await asyncio.gather(*map(register, names))


FLEETS: Mapping[str, Callable[[Path, int], AbstractAsyncContextManager[Fleet]]] = {
    "huawei": at_huawei,
    "alibaba": at_alibaba,
}


async def run(cloud: str, directory: Path, count: int, values: int) -> FleetTally:
    """Have a fleet speak at a cloud."""
    folder, outbox = directory / "site", directory / "outbox"
    for one in (folder, outbox):
        await asyncio.to_thread(partial(one.mkdir))
    async with FLEETS[cloud](folder, count) as fleet:
        return await speak(fleet, outbox, values)
