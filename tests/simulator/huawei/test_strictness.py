"""What the simulated Huawei cloud refuses, because the vendor does: each test names its page.

Pages are of the vendor's documentation (support.huaweicloud.com).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.options import HuaweiCloudOptions, HuaweiRules
from gatewayd.simulator.huawei.platform.device import DeviceAuth
from gatewayd.testing.waiting import until
from tests.simulator.huawei.client import (
    GATEWAY,
    GATEWAYS,
    SECRET,
    Gateway,
    Hello,
    certificate,
    child,
    device,
    greet,
    ledger_of,
    one,
    provision,
    served,
    showing,
    vouch,
)
from tests.simulator.wire import PATIENCE, wire

LOGIN = Hello(secret=SECRET)
BATCH = f"$oc/devices/{GATEWAY}/sys/gateway/sub_devices/properties/report"
HOURS = 36_000.0
"""A period of limits that does not end in a test, however slow the machine is."""
TEMPERATURE = [{"service_id": "env", "properties": {"temperature": 21.5}}]


def server(cloud: HuaweiCloud) -> dict[str, int]:
    truth: Any = cloud.truth()
    found: dict[str, int] = truth["server"]
    return found


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (Hello("any", client="c" * 257), 2),
        (Hello("any", client="c" * 256, username="u" * 257), 4),
    ],
)
async def test_a_client_id_and_a_user_name_have_256_characters(
    cloud: HuaweiCloud, hello: Hello, code: int
) -> None:
    """api-iothub/iot_06_v5_3009; here even where self-registration accepts any text."""
    provision(one(cloud), vouch(one(cloud)))
    assert await greet(cloud, hello, certificate()) == code
    fits = Hello("any", client="c" * 256, username="u" * 256)
    assert await greet(cloud, fits, certificate()) == 0


@pytest.mark.parametrize("hour", ["2026013203", "2026022910", "2026010224", "0000000000"])
async def test_the_hour_of_a_client_id_is_a_time(cloud: HuaweiCloud, hour: str) -> None:
    """api-iothub/iot_06_v5_3009: YYYYMMDDHH, required even where it is not compared."""
    assert await greet(cloud, replace(LOGIN, hour=hour)) == 2


def connect_with_a_will() -> bytes:
    """A CONNECT whose will flag is set, as the vendor's own format would be otherwise."""
    packet = bytearray(LOGIN.packet)
    flags = packet.index(b"MQTT") + 5
    packet[flags] |= 0x04
    client = int.from_bytes(packet[flags + 3 : flags + 5], "big")
    end = flags + 5 + client
    will = struct.pack("!H", 1) + b"t" + struct.pack("!H", 1) + b"m"
    body = bytes(packet[packet.index(b"\0\4MQTT") : end]) + will + bytes(packet[end:])
    length, size = b"", len(body)
    while size > 0x7F:
        length, size = length + bytes((size & 0x7F | 0x80,)), size >> 7
    return b"\x10" + length + bytes((size,)) + body


async def test_no_wills(cloud: HuaweiCloud) -> None:
    """productdesc-iothub/iot_04_0010: will messages are not supported."""
    async with wire(cloud.port, showing(None), connect_with_a_will(), one(cloud).domain) as link:
        assert await link.code() is None
    assert server(cloud)["malformed"] == 1


async def test_no_retained_messages_and_no_qos_2(cloud: HuaweiCloud) -> None:
    """productdesc-iothub/iot_04_0010: QoS 2 and retained messages are not supported."""
    for header in (b"\x31", b"\x34"):
        async with device(cloud) as gw:
            gw.wire.writer.write(header + b"\x06" + struct.pack("!H", 2) + b"/t" + b"\0\1")
            assert await gw.wire.ended() == b""
    assert server(cloud)["malformed"] == 2


async def test_a_custom_topic_has_128_bytes(cloud: HuaweiCloud, gw: Gateway) -> None:
    """productdesc-iothub/iot_04_0010; bytes, and no characters."""
    fits, long, chinese = "/" + "a" * 127, "/" + "a" * 128, "/" + "温" * 43
    assert await gw.subscribe([fits, long, chinese]) == [1, 0x80, 0x80]
    for topic in (fits, long, chinese):
        gw.publish(topic, b"x")
    await gw.served()
    assert ledger_of(cloud)["published"] == {"custom": 1}
    assert ledger_of(cloud)["refused_messages"] == 2


@pytest.mark.parametrize(
    "one_filter",
    [
        "#", "+", "+/status", "$SYS/#", "$share/group/t", "$oc/#", "$oc/devices/+/sys/events/down",
        f"$oc/devices/{GATEWAY}/#", f"$oc/devices/{GATEWAY}/sys/#", "$oc/devices/another/user/a",
        f"$oc/devices/{GATEWAY}/sys/commands/request_id=#",
        f"$oc/devices/{GATEWAY}/user/undefined",
    ],
)  # fmt: skip
async def test_a_device_subscribes_to_its_own_topics(gw: Gateway, one_filter: str) -> None:
    """devg-iothub/iot_02_2200; a product's topics must be defined (usermanual-iothub/iot_01_0331).

    A refusal is a SUBACK of failure (usermanual-iothub/iot_01_1112).
    """
    assert await gw.subscribe([one_filter]) == [0x80]
    assert await gw.subscribe(["/v1/test/#"]) == [1]  # as iot_01_1114 shows


async def test_a_product_defines_its_topics(cloud: HuaweiCloud, gw: Gateway) -> None:
    """usermanual-iothub/iot_02_9999: for those that begin with $oc, the product decides."""
    one(cloud).products.update(GATEWAYS, {"topics": ["up", "deep/er"]})
    own = [f"$oc/devices/{GATEWAY}/user/{suffix}" for suffix in ("up", "deep/er", "down")]
    assert await gw.subscribe(own) == [1, 1, 0x80]
    for topic in own:
        gw.publish(topic, b"x")
    await gw.served()
    assert (ledger_of(cloud)["published"], ledger_of(cloud)["refused_messages"]) == (
        {"custom": 2}, 1,
    )  # fmt: skip


@pytest.mark.parametrize(
    "cipher", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", "AES128-GCM-SHA256"]
)
async def test_a_suite_of_tls_1_2_that_is_not_listed(cloud: HuaweiCloud, cipher: str) -> None:
    """usermanual-iothub/iot_01_0128 and iot_06_v5_3001 list the suites."""
    context = showing(None, ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(cipher)

    def shake() -> None:
        plain = socket.create_connection(("127.0.0.1", cloud.port), PATIENCE)
        with plain, context.wrap_socket(plain, server_hostname=one(cloud).domain):
            pass

    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        await asyncio.to_thread(shake)


@pytest.mark.parametrize("suite", ["ECDHE-{}-AES128-GCM-SHA256", "ECDHE-{}-AES256-SHA"])
@pytest.mark.parametrize("rsa_key", [False, True])
async def test_a_suite_of_tls_1_2_that_is_listed(suite: str, *, rsa_key: bool) -> None:
    """usermanual-iothub/iot_01_0128 and iot_06_v5_3001."""
    async with served(HuaweiCloudOptions(rsa_key=rsa_key)) as cloud:
        context = showing(None, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(suite.format("RSA" if rsa_key else "ECDSA"))
        async with wire(cloud.port, context, LOGIN.packet, one(cloud).domain) as link:
            assert await link.code() == 0


@pytest.mark.parametrize(
    ("suite", "answer"),
    [("TLS_CHACHA20_POLY1305_SHA256", b""), ("TLS_AES_128_GCM_SHA256", b"\x20\x02\x00\x00")],
)
async def test_a_suite_of_tls_1_3(cloud: HuaweiCloud, suite: str, answer: bytes) -> None:
    """usermanual-iothub/iot_01_0128.  Python cannot choose the suites of TLS 1.3."""

    def converse() -> bytes:
        return subprocess.run(
            ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{cloud.port}",
             "-servername", one(cloud).domain, "-ciphersuites", suite],
            input=LOGIN.packet + b"\xe0\x00", capture_output=True, timeout=PATIENCE, check=False,
        ).stdout  # fmt: skip

    assert await asyncio.to_thread(converse) == answer
    assert server(cloud).get("cipher", 0) == (not answer)


async def test_a_message_has_a_mebibyte(cloud: HuaweiCloud) -> None:
    """productdesc-iothub/iot_04_0010: a larger message is rejected."""
    topic = f"$oc/devices/{GATEWAY}/sys/messages/up"
    async with device(cloud) as gw:
        gw.publish(topic, b"x" * (1 << 20))
        await gw.served()
        assert ledger_of(cloud)["published"] == {"messages/up": 1}
        gw.publish(topic, b"x" * ((1 << 20) + 1))
        await gw.served()
    assert ledger_of(cloud)["published"] == {"messages/up": 1}
    assert ledger_of(cloud)["discards"] == {"too-large": 1}


async def test_a_report_of_properties_has_64_kibibytes(cloud: HuaweiCloud, gw: Gateway) -> None:
    """usermanual-iothub/iot_01_0326."""
    await gw.add("c1")
    padding = " " * (64 << 10)
    gw.publish(BATCH, {"devices": [{"device_id": child("c1"), "services": TEMPERATURE}]})
    gw.publish(
        BATCH, {"devices": [{"device_id": child("c1"), "services": TEMPERATURE, "x": padding}]}
    )
    await gw.served()
    assert ledger_of(cloud, child("c1"))["property_reports"] == 1
    assert ledger_of(cloud)["discards"] == {"too-large": 1}


async def test_a_connection_sends_fifty_messages_in_a_second() -> None:
    """productdesc-iothub/iot_04_0010; what exceeds a limit is discarded (iot_04_0014)."""
    topic = f"$oc/devices/{GATEWAY}/sys/messages/up"
    async with served(rules=HuaweiRules(period=HOURS)) as cloud, device(cloud) as gw:
        for number in range(60):
            gw.publish(topic, b"%d" % number, qos=1)
        await gw.served()
        assert len(gw.acks) == 60
        assert ledger_of(cloud)["published"] == {"messages/up": 50}
        assert ledger_of(cloud)["throttled"] == 10
        other = f"{GATEWAYS}_gw-2"
        one(cloud).devices.add(node_id="gw-2", product_id=GATEWAYS, auth=DeviceAuth(secret=SECRET))
        async with device(cloud, Hello(other, secret=SECRET)) as second:
            second.publish(f"$oc/devices/{other}/sys/messages/up", b"x")
            await second.served()
        assert ledger_of(cloud, other)["throttled"] == 0  # of a connection, not of all
    assert HuaweiRules().period == 1.0


async def test_a_connection_sends_a_mebibyte_in_a_second() -> None:
    """productdesc-iothub/iot_04_0010: the bandwidth of a connection, here a small one."""
    topic = f"$oc/devices/{GATEWAY}/sys/messages/up"
    rules = HuaweiRules(bandwidth=1_000, period=HOURS)
    async with served(rules=rules) as cloud, device(cloud) as gw:
        for _ in range(3):
            gw.publish(topic, b"x" * 400)
        await gw.served()
        assert ledger_of(cloud)["throttled"] == 1
    assert HuaweiRules().bandwidth == 1 << 20


async def test_an_instance_accepts_so_many_connects_in_a_second() -> None:
    """productdesc-iothub/iot_04_0014: 100 for each unit; how the rest is refused is not said."""
    async with served(rules=HuaweiRules(connects=2, period=HOURS)) as cloud:
        assert [await greet(cloud, LOGIN) for _ in range(3)] == [0, 0, 3]
        truth: Any = cloud.truth()
        assert truth["instances"]["one"]["strangers"] == {"too-many-connects": 1}
        await until(lambda: ledger_of(cloud)["status"] == "OFFLINE")
