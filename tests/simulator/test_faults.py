"""Named faults: the line of text, the choice, and what each does to a client."""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.errors import ConfigError
from gatewayd.simulator import faults
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.simulator.faults import FaultPlan, SimulatedFault, parse
from tests.simulator.alibaba.client import (
    PRODUCT,
    PRODUCT_SECRET,
    connect_packet,
    knock,
    logging_in,
    obtain,
    registering,
)
from tests.simulator.wire import trusting, wire
from tests.support.simulated_ca import CERTIFICATE

CHILD, OTHER = "TH20-0001", "PM10-0001"


@pytest.fixture
async def cloud() -> AsyncIterator[AlibabaCloud]:
    async with AlibabaCloud(
        {PRODUCT: PRODUCT_SECRET},
        [(PRODUCT, CHILD), (PRODUCT, OTHER)],
        certificate=CERTIFICATE,
        clock=lambda: 0.0,
        random=random.Random(7).randbytes,
        options=AlibabaCloudOptions(rate=0),
    ) as cloud:
        yield cloud


def issued(cloud: AlibabaCloud) -> int:
    truth: Any = cloud.truth()
    count: int = truth["devices"][PRODUCT][CHILD]["registrations"]
    return count


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("", ()),
        ("silent", (SimulatedFault("silent"),)),
        ("lose-puback:x2@a", (SimulatedFault("lose-puback", "message", times=2, glob="a"),)),
        ("refuse:4@TH20-*", (SimulatedFault("refuse", number=4, glob="TH20-*"),)),
        ("login.slow:2.5:10%:x3", (SimulatedFault("slow", "login", 2.5, 10, 3),)),
        ("register.hang-up:0.5%", (SimulatedFault("hang-up", share=0.5),)),
        (
            "no-push:x1@a:b@c, down",
            (SimulatedFault("no-push", times=1, glob="a:b@c"), SimulatedFault("down")),
        ),
    ],
)
def test_plans(text: str, plan: tuple[SimulatedFault, ...]) -> None:
    assert parse(text) == plan


@pytest.mark.parametrize(
    "text",
    [
        "unheard-of",
        "refuse",
        "refuse:0",
        "refuse:6",
        "refuse:4.5",
        "silent:3",
        "silent:0%",
        "silent:101%",
        "silent:x3:10%",
        "slow:3601",
        "login.no-push",
        "cloud.silent",
        "down:10%",
        "down@TH20-*",
        "silent@",
        "silent " * 101,
    ],
)
def test_what_is_no_plan(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


@given(st.text(alphabet="abdenilrsw-.:%x@*0123456789 ,", max_size=40))
def test_any_text_is_a_plan_or_a_configuration_error(text: str) -> None:
    try:
        plan = parse(text)
    except ConfigError:
        return
    assert all(fault.name in faults.NUMBERS for fault in plan)


def test_every_fault_is_in_the_manual() -> None:
    found = re.findall(r"^    ([a-z-]+)(?:$|:| )", faults.__doc__ or "", re.MULTILINE)
    assert set(found) >= set(faults.NUMBERS)


def test_a_fault_strikes_so_often_for_each_device() -> None:
    plan = FaultPlan(parse("hang-up:x2"))
    for device in ("a", "b"):
        struck = [plan.choose("register", device) is not None for _ in range(4)]
        assert struck == [True, True, False, False]


def test_the_first_that_matches_strikes() -> None:
    plan = FaultPlan(parse("refuse:3:x1@TH20-* hang-up login.silent"))
    names = [fault and fault.name for fault in (plan.choose("register", CHILD) for _ in range(2))]
    assert names == ["refuse", "hang-up"]
    assert plan.choose("register", OTHER) == SimulatedFault("hang-up")
    assert plan.choose("login", OTHER) == SimulatedFault("silent", "login")


def test_a_share_depends_on_seed_and_device_and_never_on_the_order() -> None:
    devices = [f"d{number}" for number in range(1000)]

    def struck(order: list[str], seed: int) -> set[str]:
        plan = FaultPlan(parse("silent:10%"), seed)
        return {device for device in order if plan.choose("register", device)}

    assert struck(devices, 1) == struck(devices[::-1], 1)
    assert struck(devices, 1) != struck(devices, 2)
    assert 50 < len(struck(devices, 1)) < 200


def test_a_share_lets_a_later_attempt_through() -> None:
    plan = FaultPlan(parse("silent:50%"))
    attempts = [plan.choose("register", CHILD) is None for _ in range(50)]
    assert 5 < sum(attempts) < 45


def test_the_plan_forgets_when_it_is_replaced() -> None:
    plan = FaultPlan(parse("silent:x1"))
    assert plan.choose("register", CHILD)
    plan.replace(parse("silent:x1"))
    assert plan.choose("register", CHILD)


@pytest.mark.parametrize("stage", ["register", "login"])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("refuse:3", 3),
        ("refuse:5", 5),
        ("hang-up", None),
        ("garbage", None),
        ("slow:0.01", 0),
        ("hang-up-after-connack", 0),
    ],
)
async def test_faults_of_the_answer(
    cloud: AlibabaCloud, stage: str, fault: str, code: int | None
) -> None:
    secret = await obtain(cloud.port, registering(CHILD), trusting())
    who = logging_in(CHILD, secret) if stage == "login" else registering(CHILD)
    cloud.set_faults(f"{stage}.{fault}:x1@TH20-*")
    assert await knock(cloud.port, who, trusting()) == code
    truth: Any = cloud.truth()
    assert sum(truth["devices"][PRODUCT][CHILD]["faults"].values()) == 1
    assert await knock(cloud.port, who, trusting()) == 0


@pytest.mark.parametrize(
    ("secrets", "plan"),
    [
        (0, "silent hang-up garbage refuse:3"),
        (1, "no-push hang-up-after-connack secret-then-hang-up late:0.01 slow:0.01"),
        (1, "foreign-name empty-secret bad-json"),
        (2, "answer-twice"),
    ],
)
async def test_whether_a_fault_issues_a_secret(
    cloud: AlibabaCloud, secrets: int, plan: str
) -> None:
    for fault in plan.split():
        before = issued(cloud)
        cloud.set_faults(fault)
        async with wire(cloud.port, trusting(), connect_packet(registering(CHILD))) as one:
            if fault == "silent":
                one.leave()
            await one.reader.read(1)
        assert issued(cloud) - before == secrets


async def test_silence_lasts_until_the_client_leaves(cloud: AlibabaCloud) -> None:
    cloud.set_faults("silent")
    async with wire(cloud.port, trusting(), connect_packet(registering(CHILD))) as one:
        one.leave()
        assert await one.ended() == b""


@pytest.mark.parametrize("fault", ["hang-up-after-connack", "secret-then-hang-up"])
async def test_hanging_up(cloud: AlibabaCloud, fault: str) -> None:
    cloud.set_faults(fault)
    async with wire(cloud.port, trusting(), connect_packet(registering(CHILD))) as one:
        assert await one.code() == 0
        assert (b"deviceSecret" in await one.ended()) == (fault == "secret-then-hang-up")


async def test_no_push(cloud: AlibabaCloud) -> None:
    cloud.set_faults("no-push")
    async with wire(cloud.port, trusting(), connect_packet(registering(CHILD))) as one:
        assert await one.code() == 0
        one.leave()
        assert await one.ended() == b""


@pytest.mark.parametrize("fault", ["late:0.01", "slow:0.01"])
async def test_what_comes_later_comes_whole(cloud: AlibabaCloud, fault: str) -> None:
    cloud.set_faults(fault)
    secret = await obtain(cloud.port, registering(CHILD), trusting())
    assert secret == cloud.secret(PRODUCT, CHILD)


async def test_of_two_answers_the_second_is_valid(cloud: AlibabaCloud) -> None:
    cloud.set_faults("answer-twice")
    async with wire(cloud.port, trusting(), connect_packet(registering(CHILD))) as one:
        assert await one.code() == 0
        pushes = [await one.push(), await one.push()]
    secrets = [json.loads(push[1])["deviceSecret"] for push in pushes if push]
    assert len(set(secrets)) == 2
    assert secrets[1] == cloud.secret(PRODUCT, CHILD)


async def pushed(cloud: AlibabaCloud, fault: str) -> bytes:
    cloud.set_faults(fault)
    async with wire(cloud.port, trusting(), connect_packet(registering(CHILD))) as one:
        assert await one.code() == 0
        push = await one.push()
    assert push is not None
    assert push[0] == "/ext/register"
    return push[1]


async def test_payloads_that_are_wrong(cloud: AlibabaCloud) -> None:
    assert json.loads(await pushed(cloud, "foreign-name"))["deviceName"] != CHILD
    assert json.loads(await pushed(cloud, "empty-secret"))["deviceSecret"] == ""
    with pytest.raises(json.JSONDecodeError):
        json.loads(await pushed(cloud, "bad-json"))


async def test_down_refuses_connections_until_it_is_over(cloud: AlibabaCloud) -> None:
    port = cloud.port
    async with wire(port, trusting()) as one:
        cloud.set_faults("down")
        assert await one.ended() == b""
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            await knock(port, registering(CHILD), trusting())
    cloud.set_faults("")
    assert cloud.port == port
    assert await knock(port, registering(CHILD), trusting()) == 0


async def test_a_plan_may_be_down_from_the_start() -> None:
    cloud = AlibabaCloud(
        {}, [], certificate=CERTIFICATE, clock=lambda: 0.0, random=random.Random(7).randbytes
    )
    cloud.set_faults("down")
    async with cloud:
        with pytest.raises(ConnectionRefusedError):
            await knock(cloud.port, registering(CHILD), trusting())
