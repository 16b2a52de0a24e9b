"""The simulated Alibaba cloud, driven by paho and by bytes of our own over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator import pki
from gatewayd.simulator.alibaba.answers import PushOptions
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.simulator.alibaba.credentials import KEEP_ALIVE, AlibabaConnectRefused, understand
from gatewayd.simulator.mqtt.link import MqttLimits
from gatewayd.simulator.mqtt.packets import Connect
from gatewayd.simulator.pki import KeyedCertificate
from gatewayd.testing.waiting import until
from tests.simulator.alibaba.client import (
    PRODUCT,
    PRODUCT_SECRET,
    Credentials,
    connect_packet,
    knock,
    logging_in,
    obtain,
    paho,
    registering,
)
from tests.simulator.wire import handshake, trusting, wire
from tests.support.simulated_ca import AUTHORITY, CERTIFICATE, NOW

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
CHILDREN = [f"TH20-{number:04}" for number in range(200)]
CHILD = CHILDREN[0]


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def served(
    options: AlibabaCloudOptions | None = None,
    certificate: KeyedCertificate = CERTIFICATE,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[AlibabaCloud]:
    options = options or AlibabaCloudOptions(rate=0)
    async with AlibabaCloud(
        {PRODUCT: PRODUCT_SECRET, "a1Other": "another-secret"},
        [(PRODUCT, name) for name in CHILDREN],
        certificate=certificate,
        clock=clock or Clock(),
        random=random.Random(7).randbytes,
        options=options,
    ) as cloud:
        yield cloud


def ledger(cloud: AlibabaCloud, name: str = CHILD) -> Any:
    truth: Any = cloud.truth()
    return truth["devices"][PRODUCT][name]


@pytest.mark.parametrize("qos", [0, 1])
async def test_the_secret_comes_unasked(qos: int) -> None:
    async with (
        served(AlibabaCloudOptions(manner=PushOptions(qos=qos))) as cloud,
        paho(cloud.port, registering(CHILD), trusting(cloud.ca_pem)) as client,
    ):
        await until(lambda: client.messages)
        topic, payload, received_qos = client.messages[0]
        assert (client.codes, topic, received_qos) == ([0], "/ext/register", qos)
        assert json.loads(payload) == {
            "productKey": PRODUCT,
            "deviceName": CHILD,
            "deviceSecret": cloud.secret(PRODUCT, CHILD),
        }


@pytest.mark.parametrize("method", ["hmacmd5", "hmacsha1", "hmacsha256"])
async def test_every_method_of_signing_registers_and_logs_in(method: str) -> None:
    async with served() as cloud:
        secret = await obtain(cloud.port, registering(CHILD, method=method), trusting())
        who = logging_in(CHILD, secret, method=method)
        for one in (who, who.but(options={"timestamp": "2524608000000"})):
            assert await knock(cloud.port, one, trusting()) == 0


@pytest.mark.parametrize(
    ("who", "code"),
    [
        (registering(CHILD).but(level=5), 1),
        (registering(CHILD).but(client="no-bars"), 2),
        (registering(CHILD).but(client="a|securemode=2|b|"), 2),
        (logging_in(CHILD, "s").but(client="a|securemode=2,securemode=2,signmethod=hmacmd5|"), 2),
        (registering(CHILD).but(base="x" * 65), 2),
        (registering(CHILD).but(options={"random": None}), 2),
        (registering(CHILD).but(options={"random": ""}), 2),
        (registering(CHILD).but(options={"signmethod": None}), 2),
        (registering(CHILD).but(options={"signmethod": "sha256"}), 2),
        (registering(CHILD).but(options={"authType": "Register"}), 2),
        (registering(CHILD).but(options={"securemode": "3"}), 2),
        (registering(CHILD).but(options={"securemode": None}), 2),
        (registering(CHILD).but(options={"instanceId": "iot-else"}), 2),
        (logging_in(CHILD, "s").but(keepalive=29), 3),
        (logging_in(CHILD, "s").but(keepalive=1201), 3),
        (registering(CHILD).but(username=CHILD), 4),
        (registering(CHILD).but(username=f"{CHILD}&{PRODUCT}&x"), 4),
        (registering(CHILD, key="wrong"), 4),
        (registering(CHILD).but(password="näh"), 4),
        (registering("unknown"), 4),
        (registering(CHILD).but(product="a1Missing"), 4),
        (registering(CHILD).but(options={"authType": "regnwl"}), 4),
        (logging_in(CHILD, "never issued"), 5),
        (logging_in("unknown", "secret"), 5),
    ],
)
async def test_codes_of_connack(who: Credentials, code: int) -> None:
    async with served() as cloud:
        async with wire(cloud.port, trusting(), connect_packet(who)) as one:
            assert await one.code() == code
            assert await one.ended() == b""
        assert cloud.secret(PRODUCT, CHILD) is None
        assert not cloud.online


async def test_plain_tcp_is_refused_and_not_an_error_of_tls() -> None:
    async with served() as cloud:
        assert await knock(cloud.port, registering(CHILD), None) == 2
        assert await knock(cloud.port, logging_in(CHILD, "secret"), None) == 2
        assert cloud.truth()["tls_failures"] == {}


async def test_without_plain_tcp_it_is_an_error_of_tls() -> None:
    async with served(AlibabaCloudOptions(plain=False)) as cloud:
        assert await knock(cloud.port, registering(CHILD), None) is None
        assert cloud.truth()["tls_failures"]


async def test_registration_switched_off() -> None:
    async with served() as cloud:
        cloud.set_dynreg(PRODUCT, on=False)
        assert await knock(cloud.port, registering(CHILD), trusting()) == 4
        cloud.set_dynreg(PRODUCT, on=True)
        assert await knock(cloud.port, registering(CHILD), trusting()) == 0
        assert ledger(cloud)["refused_registrations"] == {"4": 1}


async def test_a_client_that_stays_is_shown_out() -> None:
    async with (
        served(AlibabaCloudOptions(manner=PushOptions(linger=0.05))) as cloud,
        wire(cloud.port, trusting(), connect_packet(registering(CHILD))) as one,
    ):
        assert await one.code() == 0
        assert await one.push() is not None
        assert await one.ended() == b""


async def test_only_the_newest_secret_is_valid() -> None:
    async with served() as cloud:
        first = await obtain(cloud.port, registering(CHILD), trusting())
        second = await obtain(cloud.port, registering(CHILD), trusting())
        assert first != second
        assert await knock(cloud.port, logging_in(CHILD, first), trusting()) == 5
        assert await knock(cloud.port, logging_in(CHILD, second), trusting()) == 0
        seen = ledger(cloud)
        assert (seen["registrations"], seen["logins"]) == (2, 1)
        assert len(seen["secrets_sha256"]) == 2


async def test_an_activated_device_registers_only_after_a_reset() -> None:
    async with served() as cloud:
        secret = await obtain(cloud.port, registering(CHILD), trusting())
        assert await knock(cloud.port, logging_in(CHILD, secret), trusting()) == 0
        assert await knock(cloud.port, registering(CHILD), trusting()) == 5
        cloud.reset(PRODUCT, CHILD)
        assert await knock(cloud.port, logging_in(CHILD, secret), trusting()) == 0
        newer = await obtain(cloud.port, registering(CHILD), trusting())
        assert await knock(cloud.port, logging_in(CHILD, secret), trusting()) == 5
        assert await knock(cloud.port, logging_in(CHILD, newer), trusting()) == 0
        assert await knock(cloud.port, registering(CHILD), trusting()) == 5


async def test_a_session_serves_what_a_device_needs() -> None:
    async with served() as cloud:
        secret = await obtain(cloud.port, registering(CHILD), trusting())
        async with paho(cloud.port, logging_in(CHILD, secret), trusting()) as client:
            assert cloud.online == {(PRODUCT, CHILD)}
            own = f"/{PRODUCT}/{CHILD}/user"
            client.client.subscribe([(f"{own}/get", 1), (f"{own}/update", 0)])
            await until(lambda: "subscribe" in client.done)
            client.client.publish(f"{own}/update", b"x" * 100_000, qos=1)
            await until(lambda: "publish" in client.done)
            client.client.unsubscribe(f"{own}/get")
            await until(lambda: "unsubscribe" in client.done)
        await until(lambda: not cloud.online)
        assert ledger(cloud)["published"] == 1


async def test_a_ping_is_answered() -> None:
    async with served() as cloud:
        secret = await obtain(cloud.port, registering(CHILD), trusting())
        hello = connect_packet(logging_in(CHILD, secret))
        async with wire(cloud.port, trusting(), hello) as one:
            assert await one.code() == 0
            one.writer.write(b"\xc0\x00")
            assert await one.reader.readexactly(2) == b"\xd0\x00"


async def test_the_newer_login_takes_over() -> None:
    async with served() as cloud:
        secret = await obtain(cloud.port, registering(CHILD), trusting())
        hello = connect_packet(logging_in(CHILD, secret))
        async with wire(cloud.port, trusting(), hello) as older:
            assert await older.code() == 0
            async with wire(cloud.port, trusting(), hello) as newer:
                assert await newer.code() == 0
                assert await older.ended() == b""
                assert cloud.online == {(PRODUCT, CHILD)}
                assert ledger(cloud)["takeovers"] == 1
                newer.leave()
                await newer.ended()
        await until(lambda: not cloud.online)


async def test_disabling_and_deleting_shut_a_device_out() -> None:
    async with served() as cloud:
        secret = await obtain(cloud.port, registering(CHILD), trusting())
        hello = logging_in(CHILD, secret)
        async with wire(cloud.port, trusting(), connect_packet(hello)) as one:
            assert await one.code() == 0
            cloud.disable(PRODUCT, CHILD)
            await one.ended()
        assert await knock(cloud.port, hello, trusting()) == 5
        assert await knock(cloud.port, registering(CHILD), trusting()) == 5
        cloud.enable(PRODUCT, CHILD)
        async with wire(cloud.port, trusting(), connect_packet(hello)) as one:
            assert await one.code() == 0
            cloud.delete(PRODUCT, CHILD)
            await one.ended()
        assert await knock(cloud.port, hello, trusting()) == 5
        cloud.create(PRODUCT, CHILD)
        assert await obtain(cloud.port, registering(CHILD), trusting()) != secret


async def test_a_device_that_comes_too_often_is_put_off() -> None:
    clock = Clock()
    async with served(AlibabaCloudOptions(rate=5), clock=clock) as cloud:
        codes = [await knock(cloud.port, registering(CHILD), trusting()) for _ in range(6)]
        assert codes == [0, 0, 0, 0, 0, 3]
        assert await knock(cloud.port, registering(CHILDREN[1]), trusting()) == 0
        clock.now += 60
        assert await knock(cloud.port, registering(CHILD), trusting()) == 0
        assert ledger(cloud)["over_rate"] == 1


async def test_a_device_that_falls_silent_is_dropped() -> None:
    limits = MqttLimits(patience=0.3 / KEEP_ALIVE[0])
    async with served(AlibabaCloudOptions(limits=limits)) as cloud:
        secret = await obtain(cloud.port, registering(CHILD), trusting())
        hello = connect_packet(logging_in(CHILD, secret).but(keepalive=KEEP_ALIVE[0]))
        async with wire(cloud.port, trusting(), hello) as one:
            assert await one.code() == 0
            assert await one.ended() == b""
        truth: Any = cloud.truth()
        assert truth["server"]["silent"] == 1
        assert not cloud.online


async def test_devices_without_creation() -> None:
    async with served(
        AlibabaCloudOptions(rate=0, preregistration_free=True, instance_id="iot-1")
    ) as cloud:
        who = registering("new-1").but(
            options={"authType": "regnwl", "securemode": "-2", "instanceId": "iot-1"}
        )
        async with wire(cloud.port, trusting(), connect_packet(who)) as one:
            assert await one.code() == 0
            received = await one.push()
        assert received is not None
        topic, granted = received[0], json.loads(received[1])
        assert (topic, granted["deviceName"]) == ("/ext/regnwl", "new-1")
        login = Credentials("new-1", "", {"authType": "connwl", "securemode": "-2"}).but(
            base=granted["clientId"], password=granted["deviceToken"]
        )
        assert await knock(cloud.port, login, trusting()) == 0
        assert await knock(cloud.port, login.but(base="other"), trusting()) == 5
        assert await knock(cloud.port, login.but(password=""), trusting()) == 5
        codes = [await knock(cloud.port, who, trusting()) for _ in range(5)]
        assert codes == [0, 0, 0, 0, 5]


async def test_two_hundred_register_at_once() -> None:
    context = trusting()
    async with served() as cloud:
        secrets = await asyncio.gather(
            *(obtain(cloud.port, registering(name), context) for name in CHILDREN)
        )
        assert secrets == [cloud.secret(PRODUCT, name) for name in CHILDREN]
        assert len(set(secrets)) == len(CHILDREN)


async def test_the_truth_is_written_and_holds_no_secret(tmp_path: Path) -> None:
    async with served() as cloud:
        secret = await obtain(cloud.port, registering(CHILD), trusting())
        await asyncio.to_thread(cloud.write_truth, tmp_path / "truth.json")
        text = (tmp_path / "truth.json").read_text()
        assert json.loads(text) == cloud.truth()
        assert not [leaked for leaked in (secret, PRODUCT_SECRET) if leaked in text]


@pytest.mark.parametrize(
    ("certificate", "alert"),
    [
        (pki.expired(AUTHORITY, NOW), "CERTIFICATE_EXPIRED"),
        (pki.localhost(pki.make_ca("Another", NOW - pki.LIFE, NOW + pki.LIFE), NOW), "UNKNOWN_CA"),
        (pki.wrong_host(AUTHORITY, NOW), "BAD_CERTIFICATE"),
    ],
)
async def test_a_client_turns_a_bad_certificate_down(
    certificate: KeyedCertificate, alert: str
) -> None:
    async with served(certificate=certificate) as cloud:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(handshake, cloud.port, trusting())
        truth: Any = {}
        await until(lambda: truth.update(cloud.truth()) or truth["tls_failures"])
        assert alert in "".join(truth["tls_failures"])


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize(
    "hostile",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x10\xff\xff\xff\x7f",
        b"\x10\xff\xff\xff\xff\xff",
        b"\xe0\x00",
        b"\x10\x02\x00\x00",
        connect_packet(registering(CHILD)) * 2,
        random.Random(3).randbytes(100_000),
    ],
)
async def test_hostile_bytes_end_their_own_connection(hostile: bytes, tls: bool) -> None:
    async with served(AlibabaCloudOptions(limits=MqttLimits(connect=0.3))) as cloud:
        async with wire(cloud.port, trusting() if tls else None, hostile) as one:
            await one.ended()
        assert len(await obtain(cloud.port, registering(CHILD), trusting())) == 32


@pytest.mark.parametrize("tls", [True, False])
async def test_a_silent_client_is_dropped(tls: bool) -> None:
    async with served(AlibabaCloudOptions(limits=MqttLimits(connect=0.3))) as cloud:
        async with wire(cloud.port, trusting() if tls else None) as one:
            assert await one.ended() == b""
        truth: Any = cloud.truth()
        assert truth["server"]["no-connect"] == 1


async def test_connections_are_bounded() -> None:
    async with served(AlibabaCloudOptions(limits=MqttLimits(connections=2))) as cloud:
        async with wire(cloud.port, trusting()), wire(cloud.port, trusting()):
            assert await knock(cloud.port, registering(CHILD), None) is None
        await until(lambda: cloud.truth()["server"])
        truth: Any = cloud.truth()
        assert truth["server"] == {"connections": 2, "peak": 2, "full": 1}


async def test_without_files_to_open_the_server_rests(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with served() as cloud:
        with socket.create_connection(("127.0.0.1", cloud.port)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                await until(lambda: "cannot accept" in caplog.text)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert cloud.truth()["server"] == {}
            assert len(await obtain(cloud.port, registering(CHILD), trusting())) == 32


@pytest.mark.parametrize("vector", VECTORS["signed"], ids=lambda one: str(one["name"]))
def test_vectors_of_the_vendor(vector: dict[str, str]) -> None:
    for password in (vector["password"], vector["password"].upper()):
        request = understood(vector, password)
        assert request.text == vector["text"]
        assert request.signed_with(vector["key"])
        assert not request.signed_with(vector["key"] + "x")


@pytest.mark.parametrize("vector", VECTORS["wrongly_signed"], ids=lambda one: str(one["name"]))
def test_vectors_signed_wrongly(vector: dict[str, str]) -> None:
    assert not understood(vector, vector["password"]).signed_with(vector["key"])


@pytest.mark.parametrize("vector", VECTORS["token"], ids=lambda one: str(one["name"]))
def test_vectors_with_a_token(vector: dict[str, str]) -> None:
    request = understood(vector, vector["password"])
    assert (request.client_id, request.password) == ("CID", "TOK")
    assert request.name == ("a1Gt7n5yTt8", "gw-child_01")


def understood(vector: dict[str, str], password: str) -> Any:
    connect = Connect(
        "MQTT", 4, vector["client_id"], 60, True, vector["username"], password.encode()
    )
    tls = "securemode=3" not in vector["client_id"]
    with pytest.raises(AlibabaConnectRefused):
        understand(connect, tls=not tls, instance_id=vector.get("instance_id", ""))
    return understand(connect, tls=tls, instance_id=vector.get("instance_id", ""))
