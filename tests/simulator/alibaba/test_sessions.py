"""Sub-devices online through a gateway of the simulated Alibaba cloud, and the pushes to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.devices import AlibabaDevice
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.alibaba.topology import proven
from gatewayd.testing.waiting import until
from tests.simulator.alibaba.client import knock, logging_in
from tests.simulator.alibaba.gateway import (
    CHILD,
    CHILDREN,
    ERROR,
    GATEWAY,
    GATEWAYS,
    OTHER_GATEWAY,
    SECOND,
    SENSORS,
    Clock,
    Gateway,
    device,
    gateway,
    going_online,
    ledger_of,
    meaning,
    site,
    topic,
)
from tests.simulator.wire import trusting

LOGIN, BATCH_LOGIN = "combine.login", "combine.batch_login"
LOGOUT, BATCH_LOGOUT = "combine.logout", "combine.batch_logout"
CHANGE = topic("thing.topo.change")


def own(name: str, method: str) -> str:
    return topic(method, SENSORS, name)


async def bring(gw: Gateway, *names: str) -> dict[str, str]:
    """Register, attach and log in."""
    secrets = await gw.adopt(*names)
    for name, secret in secrets.items():
        assert await gw.code(LOGIN, going_online(name, secret)) == 200
    return secrets


VECTORS = [
    ("7f3c9a1e5b2d4860a7c1e9f3b5d20846", "a1Gt7n5yTt8.gw-child_01", "hmacSha256",
     "0f1d8809720f817cd9d98ed90ce7c537e49ad0203f2a626561c93f418cdc5417"),
    ("7f3c9a1e5b2d4860a7c1e9f3b5d20846", "a1Gt7n5yTt8.gw-child_01|lan=Python,_v=2.2.1,_ss=1|",
     "hmacSha256", "8f492349f17481b7cbc5874c9f287b529a2dbda96fa826cf95150100d673d6a4"),
    ("7f3c9a1e5b2d4860a7c1e9f3b5d20846", "a1Gt7n5yTt8&gw-child_01", "hmacsha1",
     "ce1a143c4f8a77f3891dc7d961e261d85bf6d51b"),
]  # fmt: skip
"""Secret, client id, method and signature, as the vendor's SDKs make them."""

SIGNED = {"productKey": "a1Gt7n5yTt8", "deviceName": "gw-child_01", "timestamp": "1700000000000"}


@pytest.mark.parametrize(("secret", "client", "method", "sign"), VECTORS)
def test_vectors_of_the_vendor(secret: str, client: str, method: str, sign: str) -> None:
    for proof in (sign, sign.upper()):
        entry = {**SIGNED, "clientId": client, "sign": proof}
        assert proven(entry, method, AlibabaDevice(secret=secret))
        assert not proven(entry, method, AlibabaDevice(secret=secret + "x"))
        assert not proven(entry | {"clientId": "x"}, method, AlibabaDevice(secret=secret))
        assert not proven(entry, method, AlibabaDevice())


@pytest.mark.parametrize(
    ("entry", "method"),
    [
        (
            {
                "clientId": "123",
                "productKey": "123",
                "deviceName": "test",
                "timestamp": "1524448722000",
                "sign": "7355dbfcd53f912fda5451af863729ec",
            },
            "hmacMd5",
        ),
        (
            {
                "clientId": "al12345&device1234",
                "productKey": "al12345",
                "deviceName": "device1234",
                "timestamp": "1581417203000",
                "sign": "b5ce0ff154ff010f21053349be49c739",
            },
            "hmacmd5",
        ),
    ],
)
def test_vectors_in_the_shape_of_the_pages(entry: dict[str, str], method: str) -> None:
    assert proven(entry, method, AlibabaDevice(secret="deviceSecret"))


async def test_going_online_and_offline(cloud: AlibabaCloud, gw: Gateway) -> None:
    secrets = await gw.adopt(CHILD)
    reply = await gw.ask(LOGIN, going_online(CHILD, secrets[CHILD]))
    assert (reply["code"], reply["data"]) == (200, meaning(CHILD))
    assert cloud.online == {(GATEWAYS, GATEWAY), (SENSORS, CHILD)}
    seen = device(cloud)
    assert (seen["logins"], seen["activated"], seen["online"]) == (1, True, True)
    assert await gw.code(LOGIN, going_online(CHILD, secrets[CHILD])) == 200
    assert (await gw.ask(LOGOUT, meaning(CHILD)))["data"] == meaning(CHILD)
    assert cloud.online == {(GATEWAYS, GATEWAY)}
    assert await gw.code(LOGOUT, meaning(CHILD)) == 520
    assert ledger_of(cloud)["calls"][LOGIN] == {"200": 2}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sign": "0" * 64}, 6287),
        ({"deviceName": "unknown"}, 6100),
        ({"deviceName": SECOND}, 6401),
        ({"signMethod": "Sha256"}, 6292),
        ({"signMethod": None}, 460),
        ({"cleanSession": True}, 460),
        ({"clientId": ""}, 460),
        ({"timestamp": 1.5}, 460),
    ],
)
async def test_sub_devices_that_cannot_go_online(
    cloud: AlibabaCloud, gw: Gateway, change: dict[str, Any], code: int
) -> None:
    secrets = await gw.adopt(CHILD)
    reply = await gw.ask(LOGIN, going_online(CHILD, secrets[CHILD], **change))
    assert reply["code"] == code
    assert ledger_of(cloud)["online"] == []


async def test_a_login_of_qos_1_is_none(gw: Gateway) -> None:
    secrets = await gw.adopt(CHILD)
    body = {"id": "1", "params": going_online(CHILD, secrets[CHILD])}
    gw.send(topic(LOGIN), body, qos=1)
    assert (await gw.receive(topic("combine.login_reply")))["code"] == 460


async def test_batches(cloud: AlibabaCloud, gw: Gateway) -> None:
    names = CHILDREN[:50]
    secrets = {**await gw.adopt(*names[:30]), **await gw.adopt(*names[30:])}
    entries = [going_online(name, secret) for name, secret in secrets.items()]
    for entry in entries:
        del entry["signMethod"]
    batch = {"signMethod": "hmacSha256", "deviceList": entries}
    reply = await gw.ask(BATCH_LOGIN, batch)
    assert (reply["code"], reply["data"]) == (200, [meaning(name) for name in names])
    assert ledger_of(cloud)["online"] == [[SENSORS, name] for name in names]
    reply = await gw.ask(BATCH_LOGOUT, [meaning(name) for name in names])
    assert (reply["code"], len(reply["data"])) == (200, 50)
    assert ledger_of(cloud)["online"] == []


async def test_a_batch_succeeds_or_fails_as_a_whole(cloud: AlibabaCloud, gw: Gateway) -> None:
    secrets = await gw.adopt(*CHILDREN[:3])
    cloud.disable(SENSORS, SECOND)
    cloud.delete(SENSORS, CHILDREN[2])
    entries = [going_online(name, secret) for name, secret in secrets.items()]
    reply = await gw.ask(BATCH_LOGIN, {"deviceList": entries})
    assert (reply["code"], reply["data"]) == (522, [meaning(SECOND), meaning(CHILDREN[2])])
    assert await gw.code(LOGIN, entries[2]) == 521
    assert ledger_of(cloud)["online"] == []
    assert await gw.code(BATCH_LOGIN, {"deviceList": entries[:1]}) == 200
    reply = await gw.ask(BATCH_LOGOUT, [meaning(CHILD), meaning(SECOND)])
    assert (reply["code"], reply["data"]) == (520, [meaning(SECOND)])
    assert ledger_of(cloud)["online"] == [[SENSORS, CHILD]]


@pytest.mark.parametrize("params", [None, {}, {"deviceList": []}, {"deviceList": [{}] * 51}])
async def test_what_is_no_batch(gw: Gateway, params: object) -> None:
    assert await gw.code(BATCH_LOGIN, params) == 460
    assert await gw.code(BATCH_LOGOUT, params) == 460


async def test_so_many_are_online_at_most() -> None:
    async with site(AlibabaRules(children=1, child_logins=0)) as cloud, gateway(cloud.port) as gw:
        await gw.listen()
        secrets = await bring(gw, CHILD)
        assert await gw.code(LOGIN, going_online(CHILD, secrets[CHILD])) == 200
        entry = going_online(SECOND, "s")
        assert await gw.code(LOGIN, entry) == 428


async def test_logins_are_limited() -> None:
    clock = Clock()
    async with site(AlibabaRules(logins=8), clock=clock) as cloud, gateway(cloud.port) as gw:
        await gw.listen()
        secrets = await gw.adopt(CHILD, SECOND)
        first = going_online(CHILD, secrets[CHILD])
        assert [await gw.code(LOGIN, first) for _ in range(6)] == [200] * 5 + [429]
        second = going_online(SECOND, secrets[SECOND])
        assert [await gw.code(LOGIN, second) for _ in range(3)] == [200, 200, 429]
        clock.now += 1
        assert await gw.code(LOGIN, second) == 200
        assert await gw.code(LOGIN, first) == 429
        clock.now += 60
        assert await gw.code(LOGIN, first) == 200


async def test_children_lose_their_sessions_with_the_connection(cloud: AlibabaCloud) -> None:
    async with gateway(cloud.port) as older:
        await older.listen()
        secrets = await bring(older, CHILD)
        secret = cloud.secret(GATEWAYS, GATEWAY)
        async with gateway(cloud.port, secret=secret) as newer:
            await older.wire.ended()
            assert cloud.online == {(GATEWAYS, GATEWAY)}
            await newer.listen()
            assert await newer.code(LOGIN, going_online(CHILD, secrets[CHILD])) == 200
        await until(lambda: not cloud.online)
        assert ledger_of(cloud)["children"] == [[SENSORS, CHILD]]
        assert ledger_of(cloud)["subscriptions"] == []


async def test_a_child_is_connected_through_its_gateway_only(
    cloud: AlibabaCloud, gw: Gateway
) -> None:
    """Page: "Register sub-devices" (document_detail/89298), on the node type."""
    secrets = await bring(gw, CHILD)
    who = logging_in(CHILD, secrets[CHILD]).but(product=SENSORS)
    assert await knock(cloud.port, who, trusting()) == 5
    assert ledger_of(cloud)["online"] == [[SENSORS, CHILD]]
    cloud.push_error((SENSORS, CHILD), 427)
    error = await gw.receive(ERROR)
    assert (error["code"], "data" in error) == (427, False)
    assert ledger_of(cloud)["online"] == []


async def test_what_a_child_says(cloud: AlibabaCloud, gw: Gateway) -> None:
    await bring(gw, CHILD)
    gw.send(own(CHILD, "thing.event.property.post"), {"id": "1", "params": {}})
    gw.send(own(SECOND, "thing.event.property.post"), {"id": "1", "params": {}})
    gw.send(own("unknown", "thing.event.property.post"), {"id": "1", "params": {}})
    gw.send("/nowhere", b"x")
    gw.send(topic("thing.event.property.post"), {"id": "1", "params": {}})
    assert (await gw.receive(ERROR))["code"] == 520
    await gw.served()
    assert (device(cloud)["published"], device(cloud, SECOND)["published"]) == (1, 0)
    assert ledger_of(cloud)["stray"] == 2


async def test_disabling_and_enabling(cloud: AlibabaCloud, gw: Gateway) -> None:
    await bring(gw, CHILD)
    mine = [own(CHILD, "thing.disable"), own(CHILD, "thing.enable")]
    assert await gw.subscribe(mine) == [1, 1]
    cloud.disable(SENSORS, CHILD)
    request = await gw.receive(mine[0])
    assert (request["params"], request["method"]) == ({}, "thing.disable")
    gw.send(mine[0] + "_reply", {"id": request["id"], "code": 200, "data": {}})
    assert (await gw.receive(ERROR))["code"] == 522
    change = await gw.receive(CHANGE)
    assert change["params"] == {"status": 8, "subList": [meaning(CHILD)]}
    gw.send(CHANGE + "_reply", {"id": change["id"], "code": 200})
    cloud.enable(SENSORS, CHILD)
    assert (await gw.receive(CHANGE))["params"]["status"] == 2
    assert await gw.served() == []
    seen = ledger_of(cloud)
    assert seen["acknowledged"] == {"thing.disable": 1, "thing.topo.change": 1}
    assert seen["undelivered"] == {"thing.enable": 1}


async def test_deleting(cloud: AlibabaCloud, gw: Gateway) -> None:
    secrets = await bring(gw, CHILD)
    assert await gw.subscribe([own(CHILD, "thing.delete")]) == [1]
    cloud.delete(SENSORS, CHILD)
    assert (await gw.receive(own(CHILD, "thing.delete")))["params"] == {}
    assert (await gw.receive(ERROR))["code"] == 521
    assert (await gw.receive(CHANGE))["params"]["status"] == 1
    assert await gw.code(LOGIN, going_online(CHILD, secrets[CHILD])) == 521
    cloud.create(SENSORS, CHILD)
    assert await gw.code(LOGIN, going_online(CHILD, secrets[CHILD])) == 6401


async def test_deleting_a_gateway_frees_its_children(cloud: AlibabaCloud, gw: Gateway) -> None:
    await bring(gw, CHILD)
    cloud.delete(GATEWAYS, GATEWAY)
    await gw.wire.ended()
    assert not cloud.online
    async with gateway(cloud.port, OTHER_GATEWAY) as other:
        cloud.reset(SENSORS, CHILD)
        await other.adopt(CHILD)


async def test_attaching_at_the_console(cloud: AlibabaCloud, gw: Gateway) -> None:
    child = (SENSORS, CHILD)
    cloud.attach((GATEWAYS, GATEWAY), child)
    cloud.attach((GATEWAYS, GATEWAY), child)
    assert (await gw.receive(CHANGE))["params"] == {"status": 0, "subList": [meaning(CHILD)]}
    cloud.attach((GATEWAYS, OTHER_GATEWAY), child)
    assert (await gw.receive(CHANGE))["params"]["status"] == 1
    assert ledger_of(cloud, OTHER_GATEWAY)["children"] == [[SENSORS, CHILD]]
    assert ledger_of(cloud, OTHER_GATEWAY)["undelivered"] == {"thing.topo.change": 1}
    cloud.detach(child)
    assert ledger_of(cloud, OTHER_GATEWAY)["children"] == []
    assert await gw.served() == []


async def test_asking_a_gateway_to_attach(cloud: AlibabaCloud, gw: Gateway) -> None:
    cloud.notify((GATEWAYS, GATEWAY), [(SENSORS, CHILD)])
    asked = await gw.receive(topic("thing.topo.add.notify"))
    assert asked["params"] == [meaning(CHILD)]
    gw.send(topic("thing.topo.add.notify_reply"), {"id": asked["id"], "code": 200, "data": {}})
    cloud.permit((GATEWAYS, GATEWAY), SENSORS, 60)
    asked = await gw.receive(topic("thing.gateway.permit"))
    assert asked["params"] == {"productKey": SENSORS, "time": 60}
    await gw.served()
    assert ledger_of(cloud)["acknowledged"] == {"thing.topo.add.notify": 1}
    with pytest.raises(ValueError, match="65536"):
        cloud.permit((GATEWAYS, GATEWAY), SENSORS, 65_536)


async def test_an_error_may_name_its_device() -> None:
    async with site(AlibabaRules(error_data=True)) as cloud, gateway(cloud.port) as gw:
        await gw.listen()
        await bring(gw, CHILD)
        cloud.push_error((SENSORS, CHILD), 6401)
        error = await gw.receive(ERROR)
        assert (error["code"], error["data"]) == (6401, meaning(CHILD))
        assert ledger_of(cloud)["online"] == []
        assert ledger_of(cloud)["pushed"]["error.6401"] == 1


async def test_the_truth_of_gateways_holds_no_secret(cloud: AlibabaCloud, gw: Gateway) -> None:
    secrets = await bring(gw, CHILD)
    text = json.dumps(cloud.truth())
    assert secrets[CHILD] not in text
    assert (cloud.secret(GATEWAYS, GATEWAY) or "") not in text
