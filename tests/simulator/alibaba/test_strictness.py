"""What the vendor refuses, the simulated cloud refuses: each test names the vendor's page.

Numbers are those of help.aliyun.com/document_detail.
"""

from __future__ import annotations

import json
import ssl
from typing import Any

import pytest

from gatewayd.simulator import pki
from gatewayd.simulator.alibaba import topics
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.rules import AlibabaRules
from tests.simulator.alibaba.client import (
    PRODUCT,
    PRODUCT_SECRET,
    Credentials,
    connect_packet,
    knock,
    logging_in,
    obtain,
    registering,
)
from tests.simulator.alibaba.gateway import (
    CHILD,
    ERROR,
    GATEWAYS,
    GATEWAYS_SECRET,
    SENSORS,
    SENSORS_SECRET,
    Clock,
    Gateway,
    gateway,
    going_online,
    ledger_of,
    meaning,
    sign,
    site,
    topic,
)
from tests.simulator.wire import trusting, wire
from tests.support.simulated_ca import AUTHORITY, NOW

DIRECT = "direct-1"
MODEL = "thing.event.property.post"


def device(cloud: AlibabaCloud, product: str = PRODUCT, name: str = DIRECT) -> Any:
    truth: Any = cloud.truth()
    return truth["devices"][product][name]


def unlisted(name: str, key: str = PRODUCT_SECRET, product: str = PRODUCT) -> Credentials:
    options = {"authType": "regnwl", "securemode": "-2"}
    return registering(name, key=key).but(options=options, product=product)


async def test_a_sub_device_does_not_connect_for_itself(cloud: AlibabaCloud) -> None:
    """89298: a device of the node type "Gateway sub-device" registers through its gateway."""
    who = registering(CHILD, key=SENSORS_SECRET).but(product=SENSORS)
    assert await knock(cloud.port, who, trusting()) == 4
    secret = cloud.show_secret(SENSORS, CHILD)
    who = logging_in(CHILD, secret).but(product=SENSORS)
    assert await knock(cloud.port, who, trusting()) == 5
    assert device(cloud, SENSORS, CHILD)["refused_registrations"] == {"4": 1}
    assert device(cloud, SENSORS, CHILD)["refused_logins"] == {"5": 1}


@pytest.mark.parametrize("name", ["abc", "a" * 33, "name/1", "näme", "name 1"])
async def test_a_name_breaks_the_rules(name: str) -> None:
    """120329, code 6280: 4 to 32 letters, digits and `-_@.:`."""
    async with site(preregistration_free=True) as cloud:
        assert await knock(cloud.port, unlisted(name), trusting()) == 4
        with pytest.raises(ValueError, match=r".+"):
            cloud.create(PRODUCT, name)


async def test_registration_without_creation_is_for_direct_devices_without_a_secret() -> None:
    """74006: direct devices only, and none that is activated with a secret of its own."""
    async with site(preregistration_free=True) as cloud:
        who = unlisted("gateway-9", GATEWAYS_SECRET, GATEWAYS)
        assert await knock(cloud.port, who, trusting()) == 4
        secret = await obtain(cloud.port, registering(DIRECT), trusting())
        assert await knock(cloud.port, logging_in(DIRECT, secret), trusting()) == 0
        assert await knock(cloud.port, unlisted(DIRECT), trusting()) == 5
        assert await knock(cloud.port, unlisted("new-1"), trusting()) == 0


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        ({"version": "1.1"}, 460),
        ({"version": 1}, 460),
        ({"method": "thing.topo.add"}, 460),
        ({"method": "thing.topo.get"}, 200),
        ({"method": ""}, 200),  # as the SDK for Node.js sends it
        ({"id": "7|exp-topic|/sys/a/b/thing/topo/get_reply"}, 200),  # likewise
    ],
)
async def test_the_envelope_of_a_request(gw: Gateway, envelope: dict[str, Any], code: int) -> None:
    """89299: `version` is "1.0", and `method` the topic's."""
    asked = topic("thing.topo.get")
    gw.send(asked, {"id": "1", "version": "1.0", "params": {}, **envelope})
    reply = await gw.receive(f"{asked}_reply")
    assert (reply["id"], reply["code"]) == (envelope.get("id", "1"), code)


FOREIGN = [
    f"/sys/{GATEWAYS}/gateway-1/thing/topo/get_reply",
    f"/sys/{PRODUCT}/+/thing/service/property/set",
    f"/{PRODUCT}/another-1/user/get",
    "#",
    "/anything",
    f"/{PRODUCT}/{DIRECT}/user/" + "x" * 128,
    f"/{PRODUCT}/{DIRECT}/user/1/2/3/4/5",
    f"/sys/{PRODUCT}/{DIRECT}/thing/#/reply",
]


async def test_a_device_uses_its_own_topics(cloud: AlibabaCloud) -> None:
    """30540: topics are isolated by device.  30527: 128 bytes, 7 levels."""
    secret = await obtain(cloud.port, registering(DIRECT), trusting())
    hello = connect_packet(logging_in(DIRECT, secret))
    async with wire(cloud.port, trusting(), hello) as one:
        assert await one.code() == 0
        client = Gateway(one, DIRECT)
        assert await client.subscribe(FOREIGN) == [0x80] * len(FOREIGN)
        own = [f"/{PRODUCT}/{DIRECT}/user/get", f"/sys/{PRODUCT}/{DIRECT}/thing/event/+/post_reply"]
        assert await client.subscribe(own) == [1, 1]
        for foreign in ("/anything", f"/{PRODUCT}/another-1/user/update"):
            client.send(foreign, b"x", qos=1)
        client.send(f"/{PRODUCT}/{DIRECT}/user/update", b"x")
        assert await client.served() == []
    found = device(cloud)
    assert (found["discarded"], found["published"]) == ({"foreign-topic": 2}, 1)
    assert found["refused_topics"] == len(FOREIGN)


async def test_a_message_has_a_size(cloud: AlibabaCloud) -> None:
    """30527: 256 KB; a larger one is not accepted."""
    secret = await obtain(cloud.port, registering(DIRECT), trusting())
    hello = connect_packet(logging_in(DIRECT, secret))
    async with wire(cloud.port, trusting(), hello) as one:
        assert await one.code() == 0
        client = Gateway(one, DIRECT)
        update = f"/{PRODUCT}/{DIRECT}/user/update"
        client.send(update, b"x" * 256 * 1024)
        client.send(update, b"x" * (256 * 1024 + 1))
        assert await client.served() == []
        assert (device(cloud)["discarded"], device(cloud)["published"]) == ({"size": 1}, 1)
        client.send(update, b"x" * 300_000)
        await one.ended()


@pytest.mark.parametrize(("qos", "limit"), [(0, 30), (1, 10)])
async def test_a_device_publishes_so_often(qos: int, limit: int) -> None:
    """30527: 30 messages a second of QoS 0, 10 of QoS 1; 163772: the rest is lost silently."""
    clock = Clock()
    async with site(AlibabaRules(), clock=clock) as cloud:
        secret = await obtain(cloud.port, registering(DIRECT), trusting())
        hello = connect_packet(logging_in(DIRECT, secret))
        async with wire(cloud.port, trusting(), hello) as one:
            assert await one.code() == 0
            client = Gateway(one, DIRECT)
            for _ in range(limit + 2):
                client.send(f"/{PRODUCT}/{DIRECT}/user/update", b"x", qos=qos)
            await client.served()
            assert (device(cloud)["published"], device(cloud)["discarded"]) == (limit, {"rate": 2})
            clock.now += 1
            client.send(f"/{PRODUCT}/{DIRECT}/user/update", b"x", qos=qos)
            await client.served()
            assert device(cloud)["published"] == limit + 1


async def test_an_account_connects_so_often() -> None:
    """30527: 500 connects of an account in a second."""
    clock = Clock()
    async with site(AlibabaRules(connects=2), clock=clock) as cloud:
        who = registering(DIRECT)
        codes = [await knock(cloud.port, who, trusting()) for _ in range(3)]
        assert codes == [0, 0, 3]
        clock.now += 1
        assert await knock(cloud.port, who, trusting()) == 0


REGION = "{product}.iot-as-mqtt.cn-shanghai.aliyuncs.com"
NAMES = ["*.iot-as-mqtt.cn-shanghai.aliyuncs.com", "*.iot-as-mqtt.us-west-1.aliyuncs.com"]


class Named(ssl.SSLContext):
    """A context that sends one server name, whatever is asked for."""

    name: str | None

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **{**more, "server_hostname": self.name})


def asking_for(name: str | None) -> ssl.SSLContext:
    context = Named(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=AUTHORITY.pem)
    context.name = name
    return context


@pytest.mark.parametrize(
    ("name", "register", "login"),
    [
        (f"{PRODUCT}.iot-as-mqtt.cn-shanghai.aliyuncs.com", 0, 0),
        (f"{PRODUCT.lower()}.iot-as-mqtt.cn-shanghai.aliyuncs.com", 0, 0),
        (None, 0, 0),  # as the SDK for Node.js
        (f"{PRODUCT}.iot-as-mqtt.us-west-1.aliyuncs.com", 4, 5),
        (f"{SENSORS}.iot-as-mqtt.cn-shanghai.aliyuncs.com", 4, 5),
        ("iot-060a0bc.mqtt.iothub.aliyuncs.com", 4, 5),
    ],
)
async def test_another_region_does_not_know_the_product(
    name: str | None, register: int, login: int
) -> None:
    """147356: each region, and each instance, has endpoints of its own."""
    certificate = AUTHORITY.issue(NAMES, [], NOW - pki.LIFE, NOW + pki.LIFE)
    async with site(hosts=(REGION,), certificate=certificate) as cloud:
        secret = cloud.show_secret(PRODUCT, DIRECT)
        context = asking_for(name)
        assert await knock(cloud.port, registering(DIRECT), context) == register
        secret = cloud.secret(PRODUCT, DIRECT) or secret
        assert await knock(cloud.port, logging_in(DIRECT, secret), context) == login


async def test_who_asks_for_it_is_sent_everything_unsubscribed() -> None:
    """The vendor's SDKs set `_ss=1`, and subscribe to nothing (aliyun-iot-linkkit 1.2.13)."""
    async with site(AlibabaRules(subscribe=False, child_logins=0)) as cloud:
        secret = cloud.show_secret(GATEWAYS, "gateway-1")
        who = logging_in("gateway-1", secret).but(product=GATEWAYS, options={"_ss": "1"})
        async with wire(cloud.port, trusting(), connect_packet(who)) as one:
            assert await one.code() == 0
            gw = Gateway(one)
            secrets = await gw.adopt(CHILD)
            silent = going_online(CHILD, secrets[CHILD])
            assert await gw.code("combine.login", silent) == 200
            gw.send(topic(MODEL, SENSORS, CHILD), {"id": "1", "method": MODEL, "params": {}})
            assert [name for name, _ in await gw.served()] == []
            cloud.push_error((SENSORS, CHILD), 520)
            assert (await gw.receive(ERROR))["code"] == 520


async def test_a_child_that_asks_for_it_is_answered_through_its_gateway() -> None:
    """Likewise, in the client id of combine/login."""
    async with site() as cloud, gateway(cloud.port) as gw:
        await gw.listen()
        secrets = await gw.adopt(CHILD)
        fields = meaning(CHILD) | {"clientId": "c|lan=Python,_ss=1|", "timestamp": "1700000000000"}
        signed = fields | {"sign": sign(secrets[CHILD], **fields), "signMethod": "hmacSha256"}
        assert await gw.code("combine.login", signed) == 200
        gw.send(topic(MODEL, SENSORS, CHILD), {"id": "1", "method": MODEL, "params": {}})
        reply = await gw.receive(topic(f"{MODEL}_reply", SENSORS, CHILD))
        assert (reply["id"], reply["code"]) == ("1", 200)


async def test_a_will_and_a_retained_message_end_the_connection(cloud: AlibabaCloud) -> None:
    """mqtt-protocol (30540): neither is offered."""
    secret = await obtain(cloud.port, registering(DIRECT), trusting())
    hello = connect_packet(logging_in(DIRECT, secret))
    body = f"/{PRODUCT}/{DIRECT}/user/update".encode()
    async with wire(cloud.port, trusting(), hello) as one:
        assert await one.code() == 0
        content = len(body).to_bytes(2, "big") + body + json.dumps({}).encode()
        one.writer.write(bytes((0x31, len(content))) + content)
        await one.ended()
    assert device(cloud)["published"] == 0
    assert ledger_of(cloud)["stray"] == 0


@pytest.mark.parametrize(
    ("topic_filter", "name", "fits"),
    [
        ("/sys/a/b/thing/event/+/post_reply", "/sys/a/b/thing/event/property/post_reply", True),
        ("/sys/a/b/thing/event/+/post_reply", "/sys/a/b/thing/event/x/y/post_reply", False),
        ("/sys/a/b/#", "/sys/a/b/thing/topo/get", True),
        ("/sys/a/b/#", "/sys/a/b", True),  # 4.7.1.2: the parent level too
        ("/sys/a/b/#", "/sys/a/bc", False),
        ("/sys/a/b/thing", "/sys/a/b/thing", True),
        ("/sys/a/b/+", "/sys/a/b", False),
    ],
)
def test_wildcards(topic_filter: str, name: str, fits: bool) -> None:
    """MQTT 3.1.1, 4.7.1."""
    assert topics.matches(topic_filter, name) is fits
