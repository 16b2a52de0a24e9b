"""Faults of requests at the simulated Alibaba cloud: the line of text, and what each one does."""

from __future__ import annotations

import json

import pytest

from gatewayd.errors import ConfigError
from gatewayd.simulator import faults
from gatewayd.simulator.alibaba.alink import AlinkCode
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.topics import REQUESTS
from gatewayd.simulator.faults import FaultPlan, SimulatedFault, parse
from tests.simulator.alibaba.gateway import (
    ASKING,
    CHILD,
    CHILDREN,
    SECOND,
    SENSORS,
    Gateway,
    device,
    gateway,
    going_online,
    ledger_of,
    meaning,
    proxied,
    topic,
)

REGISTER, GET = "thing.sub.register", "thing.topo.get"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"reply:6288@{REGISTER}", SimulatedFault("reply", REGISTER, 6288)),
        (
            f"reply:429:x2@{REGISTER}/SEN-*",
            SimulatedFault("reply", REGISTER, 429, times=2, glob="SEN-*"),
        ),
        ("lose-reply:5%@*", SimulatedFault("lose-reply", "*", share=5)),
        ("reply-late:0.5", SimulatedFault("reply-late", "*", 0.5)),
        (
            "partial:6100@combine.login/a:b@c",
            SimulatedFault("partial", "combine.login", 6100, glob="a:b@c"),
        ),
    ],
)
def test_plans_of_requests(text: str, fault: SimulatedFault) -> None:
    assert parse(text, REQUESTS) == (fault,)


@pytest.mark.parametrize(
    "text",
    [
        "reply",
        "reply:99",
        "reply:500.5",
        "reply:500@thing.unheard.of",
        "reply:500@TH20-*",
        f"login.reply:500@{REGISTER}",
        "lose-reply:3",
        "reply-late",
    ],
)
def test_what_is_no_plan_of_requests(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text, REQUESTS)


def test_a_fault_of_requests_leaves_connects_alone() -> None:
    plan = FaultPlan(parse("reply:500 silent", REQUESTS))
    assert plan.choose("register", "a") == SimulatedFault("silent")
    assert plan.choose("login", "a") is None
    assert plan.choose(GET, "a", faults.PARTIAL) is None
    assert plan.choose(GET, "a", faults.WHOLE) == SimulatedFault("reply", "*", 500)


def test_every_fault_of_a_request_is_of_one_kind() -> None:
    kinds = [faults.WHOLE, faults.PARTIAL, faults.SUBSCRIBING]
    assert sum(map(len, kinds)) == len(faults.WHOLE | faults.PARTIAL | faults.SUBSCRIBING)
    assert frozenset(list(faults.NUMBERS)[list(faults.NUMBERS).index("reply") :]) == (
        faults.WHOLE | faults.PARTIAL | faults.SUBSCRIBING
    )


@pytest.mark.parametrize("code", [*AlinkCode, 5244, 6203, 6450, 6760])
async def test_any_code_can_be_had(cloud: AlibabaCloud, gw: Gateway, code: int) -> None:
    cloud.set_faults(f"reply:{int(code)}")
    assert [await gw.code(method, {}) for method in ASKING] == [code] * len(ASKING)
    assert ledger_of(cloud)["faults"] == {"reply": len(ASKING)}


async def test_nothing_is_done_when_the_reply_is_made_up(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_faults(f"reply:500:x1@{REGISTER}/{SECOND}")
    assert await gw.code(GET, {}) == 200
    assert await gw.code(REGISTER, [meaning(CHILD)]) == 200
    assert await gw.code(REGISTER, [meaning(CHILD), meaning(SECOND)]) == 500
    assert device(cloud, SECOND)["registrations"] == 0
    assert await gw.code(REGISTER, [meaning(CHILD), meaning(SECOND)]) == 200


async def test_a_batch_is_served_in_part(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_faults(f"partial:6100@*/{SECOND}")
    granted = await gw.ask(REGISTER, [meaning(CHILD), meaning(SECOND)])
    assert [one["deviceName"] for one in granted["data"]] == [CHILD]
    assert granted["code"] == 200
    both = {"proxieds": [proxied(CHILD), proxied(SECOND)]}
    data = (await gw.ask("thing.proxy.provisioning.product_register", both))["data"]
    assert [one["deviceName"] for one in data["successes"]] == [CHILD]
    assert [one["errorDetail"]["code"] for one in data["failures"]] == [6100]
    assert device(cloud, SECOND)["registrations"] == 0


async def test_a_batch_that_is_all_or_nothing_names_the_one(
    cloud: AlibabaCloud, gw: Gateway
) -> None:
    secrets = await gw.adopt(CHILD, SECOND)
    cloud.set_faults(f"partial:521:x1@combine.batch_login/{SECOND} partial:520@combine.logout")
    batch = {"deviceList": [going_online(name, secret) for name, secret in secrets.items()]}
    reply = await gw.ask("combine.batch_login", batch)
    assert (reply["code"], reply["data"]) == (521, [meaning(SECOND)])
    assert await gw.code("combine.batch_login", batch) == 200
    assert await gw.code("combine.logout", meaning(CHILD)) == 520
    assert len(ledger_of(cloud)["online"]) == 2


async def test_a_request_is_lost(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_faults(f"lose-request@{REGISTER}")
    gw.send(topic(REGISTER), {"id": "1", "params": [meaning(CHILD)]})
    assert await gw.served() == []
    assert device(cloud)["registrations"] == 0
    assert ledger_of(cloud)["calls"] == {}


async def test_a_reply_is_lost(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_faults(f"lose-reply@{REGISTER}")
    gw.send(topic(REGISTER), {"id": "1", "params": [meaning(CHILD)]})
    assert await gw.served() == []
    assert ledger_of(cloud)["undelivered"] == {f"{REGISTER}_reply": 1}
    assert device(cloud)["registrations"] == 1


async def test_the_connection_ends_instead_of_a_reply(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_faults(f"reply-hang-up@{REGISTER}")
    gw.send(topic(REGISTER), {"id": "1", "params": [meaning(CHILD)]})
    assert b"register_reply" not in await gw.wire.ended()
    assert device(cloud)["registrations"] == 1


async def test_a_reply_comes_late(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_faults(f"reply-late:0.3:x1@{REGISTER}")
    gw.send(topic(REGISTER), {"id": "1", "params": [meaning(CHILD)]})
    assert await gw.served() == []
    assert (await gw.receive(topic(REGISTER) + "_reply"))["id"] == "1"


async def test_a_late_reply_is_lost(cloud: AlibabaCloud) -> None:
    async with gateway(cloud.port) as gw:
        cloud.set_faults(f"reply-late:0.01:x1@{REGISTER}")
        gw.send(topic(REGISTER), {"id": "1", "params": [meaning(CHILD)]})
        await gw.served()
        secret = cloud.secret("a1Gateways1", "gateway-1")
        async with gateway(cloud.port, secret=secret) as newer:
            cloud.set_faults(f"reply-late:0.05:x1@{GET}")
            assert await newer.code(GET, {}) == 200
            assert newer.received == []


async def test_replies_out_of_order(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_faults(f"reply-last:x1@{GET}")
    gw.send(topic(GET), {"id": "1", "params": {}})
    assert await gw.served() == []
    gw.send(topic(GET), {"id": "2", "params": {}})
    received = [json.loads(payload)["id"] for _, payload in await gw.served()]
    assert received == ["2", "1"]


async def test_a_reply_comes_twice(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_faults(f"reply-twice@{GET}")
    gw.send(topic(GET), {"id": "1", "params": {}})
    assert len(set(received := await gw.served())) == 1
    assert len(received) == 2


async def test_a_reply_mixes_types(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_faults(f"reply-mixed@{GET}")
    reply = await gw.ask(GET, {}, id="17")
    assert (reply["id"], reply["code"]) == (17, "200")


async def test_a_reply_is_cut_off(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_faults(f"reply-garbled@{GET}")
    with pytest.raises(json.JSONDecodeError):
        await gw.ask(GET, {})


async def test_a_topic_is_refused(cloud: AlibabaCloud) -> None:
    cloud.set_faults("refuse-topic:x1@thing.list.found")
    async with gateway(cloud.port) as gw:
        replies = [topic("thing.list.found_reply"), topic("combine.login_reply")]
        assert await gw.subscribe(replies) == [0x80, 1]
        gw.send(topic("thing.list.found"), {"id": "1", "params": [meaning("new-one")]})
        assert await gw.served() == []
        assert await gw.subscribe(replies) == [1, 1]
        assert await gw.code("thing.list.found", [meaning("new-one")]) == 200


async def test_a_share_strikes_some(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_faults(f"partial:500:50%@{REGISTER}", seed=3)
    granted = await gw.ask(REGISTER, [meaning(name) for name in CHILDREN[:30]])
    assert 5 < len(granted["data"]) < 25
    assert all(cloud.secret(SENSORS, one["deviceName"]) for one in granted["data"])
