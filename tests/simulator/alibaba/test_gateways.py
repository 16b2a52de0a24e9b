"""Gateways of the simulated Alibaba cloud: the envelope, subscriptions, registration, topology."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.simulator.alibaba import topics
from gatewayd.simulator.alibaba.alink import UnreadableAlink, read
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.rules import AlibabaRules
from tests.simulator.alibaba.client import (
    PRODUCT,
    connect_packet,
    knock,
    logging_in,
    obtain,
    registering,
)
from tests.simulator.alibaba.gateway import (
    ASKING,
    CHILD,
    CHILDREN,
    ERROR,
    GATEWAY,
    GATEWAYS,
    OTHER_GATEWAY,
    SECOND,
    SENSORS,
    UNSOLICITED,
    Gateway,
    attaching,
    device,
    gateway,
    going_online,
    ledger_of,
    meaning,
    proxied,
    site,
    topic,
)
from tests.simulator.wire import trusting, wire

REGISTER, ADD = "thing.sub.register", "thing.topo.add"
PRODUCT_REGISTER = "thing.proxy.provisioning.product_register"


def test_the_vendors_names_of_requests_and_pushes() -> None:
    assert frozenset(ASKING) == topics.REQUESTS
    for method in (*ASKING, *UNSOLICITED):
        assert topics.topic((GATEWAYS, GATEWAY), method) == topic(method)
        assert topics.route(topic(method)) == topics.AlibabaTopic((GATEWAYS, GATEWAY), method)
    assert topics.error_topic((GATEWAYS, GATEWAY)) == ERROR
    assert topics.owner(ERROR) == (GATEWAYS, GATEWAY)


@pytest.mark.parametrize(
    ("body", "request_id", "answered"),
    [
        ({"id": "123"}, "123", True),
        ({"id": 123}, "123", True),
        ({"id": 4294967295, "version": "1.0", "method": "x"}, "4294967295", True),
        ({"id": "1", "sys": {"ack": 1}}, "1", True),
        ({"id": "1", "sys": {"ack": 0}}, "1", False),
        ({"id": "1", "sys": {}}, "1", True),
        ({"id": "1", "sys": None}, "1", True),
    ],
)
def test_envelopes(body: object, request_id: str, answered: bool) -> None:
    call = read(json.dumps(body).encode())
    assert (call.id, call.answered) == (request_id, answered)


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{}", b"\xff", b"{" * 9999, b"[" * 100_000]
    + [b'{"id":%b}' % bad for bad in (b"true", b"-1", b"1.5", b'"x"', b'""', b"4294967296", b"[]")],
)
def test_what_has_no_id_is_no_request(payload: bytes) -> None:
    with pytest.raises(UnreadableAlink):
        read(payload)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_unreadable(payload: bytes) -> None:
    try:
        assert read(payload).id.isdecimal()
    except UnreadableAlink:
        return


async def test_a_reply_repeats_the_id_as_text(gw: Gateway) -> None:
    asked = {"id": 7, "params": {}}
    gw.send(topic("thing.topo.get"), asked)
    assert await gw.receive(topic("thing.topo.get_reply")) == {
        "id": "7",
        "code": 200,
        "message": "success",
        "data": [],
        "method": "thing.topo.get",
        "version": "1.0",
    }
    gone = await gw.ask("combine.logout", meaning(CHILD))
    assert set(gone) == {"id", "code", "message", "data"}


async def test_no_reply_is_sent_to_whom_wants_none(cloud: AlibabaCloud, gw: Gateway) -> None:
    body = {"id": "1", "params": [meaning(CHILD)], "sys": {"ack": 0}}
    gw.send(topic(REGISTER), body)
    gw.send(topic(REGISTER), b"no request")
    assert await gw.served() == []
    assert ledger_of(cloud)["calls"] == {REGISTER: {"200": 1}}
    assert ledger_of(cloud)["unreadable"] == 1
    assert device(cloud)["registrations"] == 1


async def test_subscriptions_are_for_what_is_ones_own(cloud: AlibabaCloud) -> None:
    async with gateway(cloud.port) as gw:
        assert await gw.subscribe(
            [
                topic("combine.login_reply"),
                ERROR,
                f"/{GATEWAYS}/{GATEWAY}/user/get",
                topic("thing.topo.change", name=OTHER_GATEWAY),
                f"/sys/{SENSORS}/{CHILD}/thing/disable",
                f"/sys/{GATEWAYS}/+/thing/topo/get_reply",
                "/anything",
                "/" + "x" * 200,
            ]
        ) == [1, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x80]
        assert await gw.subscribe([ERROR] * 9) == [1] * 8 + [0x80]
        secrets = await gw.adopt(CHILD)
        assert await gw.code("combine.login", going_online(CHILD, secrets[CHILD])) == 200
        assert await gw.subscribe([f"/sys/{SENSORS}/{CHILD}/thing/disable"]) == [1]
        assert ledger_of(cloud)["refused_topics"] == 6


async def test_subscriptions_are_bounded() -> None:
    async with site(AlibabaRules(subscriptions=2)) as cloud, gateway(cloud.port) as gw:
        own = [f"/{GATEWAYS}/{GATEWAY}/user/{at}" for at in range(3)]
        assert await gw.subscribe(own) == [1, 1, 0x80]
        await gw.unsubscribe(own[0])
        assert await gw.subscribe(own[1:]) == [1, 1]


async def test_a_direct_device_has_topics_of_its_own_and_asks_nothing(
    cloud: AlibabaCloud,
) -> None:
    secret = await obtain(cloud.port, registering("direct-1"), trusting())
    hello = connect_packet(logging_in("direct-1", secret))
    async with wire(cloud.port, trusting(), hello) as one:
        assert await one.code() == 0
        gw = Gateway(one, "direct-1")
        assert await gw.subscribe(["/anything", topic("thing.topo.get_reply")]) == [0x80, 0x80]
        gw.send(topic("thing.topo.get", PRODUCT, "direct-1"), {"id": "1", "params": {}})
        assert await gw.served() == []


@pytest.mark.parametrize("automatic", [True, False])
async def test_the_platform_subscribes_a_gateway_by_itself(automatic: bool) -> None:
    async with site(AlibabaRules(subscribe=automatic)) as cloud, gateway(cloud.port) as gw:
        for method in ASKING:
            gw.send(topic(method), {"id": "1", "params": {}})
        received = {name for name, _ in await gw.served()}
        unlisted = {"thing.list.found", *(one for one in ASKING if one.startswith("combine."))}
        listed = {topic(f"{one}_reply") for one in ASKING if one not in unlisted}
        assert received == (listed if automatic else set())
        assert sum(ledger_of(cloud)["undelivered"].values()) == len(ASKING) - len(received)


async def test_registering_sub_devices(cloud: AlibabaCloud, gw: Gateway) -> None:
    granted = await gw.ask(REGISTER, [meaning(name) for name in CHILDREN[:30]])
    secrets = {one["deviceName"]: one["deviceSecret"] for one in granted["data"]}
    assert secrets == {name: cloud.secret(SENSORS, name) for name in CHILDREN[:30]}
    assert set(granted["data"][0]) == {"iotId", "productKey", "deviceName", "deviceSecret"}
    again = await gw.ask(REGISTER, [meaning(CHILD)])
    assert again["data"][0]["deviceSecret"] != secrets[CHILD]
    assert device(cloud)["registrations"] == 2
    assert ledger_of(cloud)["calls"] == {REGISTER: {"200": 2}}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (None, 460),
        ({}, 460),
        ([], 460),
        ([meaning(name) for name in CHILDREN[:31]], 460),
        ([meaning(CHILD), meaning(CHILD)], 460),
        ([{"productKey": SENSORS}], 460),
        ([meaning("")], 460),
        ([meaning(CHILD) | {"deviceName": 7}], 460),
        ([meaning("direct-1", PRODUCT)], 460),
        ([meaning(CHILD, "a1Missing")], 5005),
        ([meaning(CHILD), meaning("unknown")], 6100),
        ([meaning(GATEWAY, GATEWAYS)], 6402),
    ],
)
async def test_what_cannot_be_registered(
    cloud: AlibabaCloud, gw: Gateway, params: object, code: int
) -> None:
    assert await gw.code(REGISTER, params) == code
    assert device(cloud)["registrations"] == 0


async def test_sub_devices_that_may_not_register(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.set_dynreg(SENSORS, on=False)
    assert await gw.code(REGISTER, [meaning(CHILD)]) == 6288
    cloud.set_dynreg(SENSORS, on=True)
    cloud.disable(SENSORS, CHILD)
    assert await gw.code(REGISTER, [meaning(CHILD)]) == 6204
    cloud.enable(SENSORS, CHILD)
    secrets = await gw.adopt(CHILD)
    assert await gw.code("combine.login", going_online(CHILD, secrets[CHILD])) == 200
    assert await gw.code(REGISTER, [meaning(CHILD)]) == 6289
    cloud.reset(SENSORS, CHILD)
    assert ledger_of(cloud)["children"] == []
    assert await gw.code(REGISTER, [meaning(CHILD)]) == 200


async def test_a_gateway_cannot_register_what_another_has(cloud: AlibabaCloud, gw: Gateway) -> None:
    await gw.adopt(CHILD)
    async with gateway(cloud.port, OTHER_GATEWAY) as other:
        assert await other.code(REGISTER, [meaning(CHILD)]) == 6619


async def test_registering_with_the_products_secret(cloud: AlibabaCloud, gw: Gateway) -> None:
    entries = [
        proxied(CHILD),
        proxied(SECOND, "wrong"),
        proxied("unknown"),
        proxied(CHILDREN[2], signMethod="sha512"),
        proxied(CHILDREN[3], productKey="a1Missing"),
    ]
    granted = await gw.ask(PRODUCT_REGISTER, {"proxieds": entries})
    assert granted["code"] == 200
    secret = cloud.secret(SENSORS, CHILD)
    assert granted["data"]["successes"] == [meaning(CHILD) | {"deviceSecret": secret}]
    failures = granted["data"]["failures"]
    assert [one["errorDetail"]["code"] for one in failures] == [6600, 6100, 6292, 5005]
    assert failures[0]["deviceName"] == SECOND


@pytest.mark.parametrize("params", [None, [], {}, {"proxieds": []}, {"proxieds": [meaning(CHILD)]}])
async def test_what_is_no_registration_with_the_products_secret(
    gw: Gateway, params: object
) -> None:
    assert await gw.code(PRODUCT_REGISTER, params) == 460


async def test_registering_with_the_products_secret_takes_over(
    cloud: AlibabaCloud, gw: Gateway
) -> None:
    secrets = await gw.adopt(CHILD)
    assert await gw.code("combine.login", going_online(CHILD, secrets[CHILD])) == 200
    mine = await gw.ask(PRODUCT_REGISTER, {"proxieds": [proxied(CHILD)]})
    assert mine["data"]["failures"][0]["errorDetail"]["code"] == 6289
    async with gateway(cloud.port, OTHER_GATEWAY) as other:
        taken = await other.ask(PRODUCT_REGISTER, {"proxieds": [proxied(CHILD)]})
        secret = taken["data"]["successes"][0]["deviceSecret"]
        assert await other.code(ADD, [attaching(CHILD, secret)]) == 200
        assert ledger_of(cloud, OTHER_GATEWAY)["children"] == [[SENSORS, CHILD]]
    assert (await gw.receive(ERROR))["code"] == 6401
    change = (await gw.receive(topic("thing.topo.change")))["params"]
    assert change == {"status": 1, "subList": [meaning(CHILD)]}
    assert ledger_of(cloud)["children"] == []
    assert not device(cloud)["online"]


async def test_attaching_and_detaching(cloud: AlibabaCloud, gw: Gateway) -> None:
    await gw.adopt(CHILD, SECOND)
    secret = cloud.secret(SENSORS, CHILD) or ""
    assert await gw.code(ADD, [attaching(CHILD, secret)]) == 200
    listed = await gw.ask("thing.topo.get", {})
    assert listed["data"] == [meaning(CHILD), meaning(SECOND)]
    assert await gw.code("combine.login", going_online(CHILD, secret)) == 200
    assert await gw.code("thing.topo.delete", [meaning(CHILD)]) == 200
    assert ledger_of(cloud)["online"] == []
    assert (await gw.ask("thing.topo.get", "{}"))["data"] == [meaning(SECOND)]
    assert await gw.code("thing.topo.delete", [meaning(SECOND), meaning(CHILD)]) == 6401
    assert await gw.code("thing.topo.delete", [meaning("unknown")]) == 6100
    assert await gw.code("thing.topo.get", []) == 460
    assert ledger_of(cloud)["children"] == [[SENSORS, SECOND]]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sign": "0" * 64}, 401),
        ({"sign": "näh"}, 401),
        ({"deviceName": "unknown"}, 6100),
        (meaning(GATEWAY, GATEWAYS), 6402),
        (meaning("direct-1", PRODUCT), 460),
        ({"signmethod": "sha512"}, 6292),
        ({"signmethod": None, "signMethod": "hmacSha256"}, 460),
        ({"timestamp": 1.7e12}, 460),
        ({"timestamp": "today"}, 460),
    ],
)
async def test_what_cannot_be_attached(
    cloud: AlibabaCloud, gw: Gateway, change: dict[str, Any], code: int
) -> None:
    granted = await gw.ask(REGISTER, [meaning(CHILD), meaning(SECOND)])
    first, second = (one["deviceSecret"] for one in granted["data"])
    entries = [attaching(CHILD, first), attaching(SECOND, second, **change)]
    assert await gw.code(ADD, entries) == code
    assert ledger_of(cloud)["children"] == []


async def test_a_disabled_device_and_an_unregistered_one_are_not_attached(
    cloud: AlibabaCloud, gw: Gateway
) -> None:
    assert await gw.code(ADD, [attaching(CHILD, "never issued")]) == 401
    cloud.disable(SENSORS, CHILD)
    assert await gw.code(ADD, [attaching(CHILD, "never issued")]) == 6204


async def test_a_gateway_has_so_many_children() -> None:
    async with site(AlibabaRules(children=2)) as cloud, gateway(cloud.port) as gw:
        secrets = await gw.adopt(CHILD, SECOND)
        granted = await gw.ask(REGISTER, [meaning(CHILDREN[2])])
        third = granted["data"][0]["deviceSecret"]
        assert await gw.code(ADD, [attaching(CHILDREN[2], third)]) == 6400
        assert await gw.code(ADD, [attaching(CHILD, secrets[CHILD])]) == 200
        cloud.detach((SENSORS, CHILD))
        assert await gw.code(ADD, [attaching(CHILDREN[2], third)]) == 200


@pytest.mark.parametrize("moves", [True, False])
async def test_whether_attaching_moves_a_child(moves: bool) -> None:
    async with site(AlibabaRules(moves=moves)) as cloud, gateway(cloud.port) as gw:
        secrets = await gw.adopt(CHILD)
        async with gateway(cloud.port, OTHER_GATEWAY) as other:
            assert await other.code(ADD, [attaching(CHILD, secrets[CHILD])]) == (
                200 if moves else 6619
            )
        assert ledger_of(cloud)["children"] == ([] if moves else [[SENSORS, CHILD]])


async def test_found_devices_are_listed(cloud: AlibabaCloud, gw: Gateway) -> None:
    seen = [meaning("new-device"), meaning(CHILD)]
    assert (await gw.ask("thing.list.found", seen))["data"] == {}
    assert await gw.code("thing.list.found", seen[:1]) == 200
    assert ledger_of(cloud)["found"] == [[SENSORS, "new-device"], [SENSORS, CHILD]]
    assert await gw.code("thing.list.found", [meaning("new", "a1Missing")]) == 6250
    assert await gw.code("thing.list.found", [meaning("a b c d")]) == 6280
    assert await gw.code("thing.list.found", {}) == 460


async def test_only_direct_devices_come_unlisted() -> None:
    unlisted = {"authType": "regnwl", "securemode": "-2"}
    async with site(preregistration_free=True) as cloud:
        for product, key, code in (
            (SENSORS, "s5Tq0Zx8Wv3Rk1Ls", 4),
            (GATEWAYS, "g4Hq7Zx8Wv3Rk1Ls", 4),
            (PRODUCT, "p5Tq0Zx8Wv3Rk1Ls", 0),
        ):
            who = registering("new-1", key=key).but(options=unlisted, product=product)
            assert await knock(cloud.port, who, trusting()) == code
