"""Devices and gateways of the Huawei cloud, byte by byte, and a platform for them to talk to.

Written from the vendor's pages, and shares no code with gatewayd or the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import itertools
import json
import random
import ssl
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gatewayd.simulator import pki
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.options import HuaweiCloudOptions, HuaweiRules
from gatewayd.simulator.huawei.platform.device import DeviceAuth
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.platform.limits import InstanceLimits
from gatewayd.simulator.huawei.platform.platform import Platform
from tests.simulator.wire import PATIENCE, Wire, trusting, wire
from tests.support.simulated_ca import AUTHORITY, NOW

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "cloud" / "huawei" / "vectors.json").read_text()
)
EPOCH, HOUR = 1_767_323_045.0, "2026010203"
"""2026-01-02T03:04:05Z, and that hour."""

GATEWAYS, SENSORS = "642bf260f2f9030e44210d8d", "642bf260f2f9030e44210d8e"
GATEWAY = f"{GATEWAYS}_gw-0001"
SECRET = "S3cret-key_0123456789"
CN, SERIAL, OU = "2.5.4.3", "2.5.4.5", "2.5.4.11"

BEGIN, END = NOW - pki.LIFE, NOW + pki.LIFE
DEVICE_CA = pki.make_ca("Device CA", BEGIN, END)
RSA_CA = pki.make_ca("Device CA, RSA", BEGIN, END, rsa_key=True)
STRANGE_CA = pki.make_ca("Nobody's CA", BEGIN, END)

BY_NAME: dict[str, Any] = {
    "parameters": {"iotda::certificate::common_name": {"type": "String"}},
    "resources": {
        "device": {
            "node_id": {"ref": "iotda::certificate::common_name"},
            "product_id": GATEWAYS,
            "tags": [{"tag_key": "site", "tag_value": "plant-7"}],
        }
    },
}
"""A template that takes the CN for a node id."""


class Clock:
    """Seconds that pass when a test says so."""

    now = EPOCH

    def __call__(self) -> float:
        return self.now


def platform(clock: Clock | None = None, limits: InstanceLimits | None = None) -> Platform:
    return Platform(clock=clock or Clock(), random=random.Random(4).randbytes, limits=limits)


def furnish(instance: IotdaInstance, app_id: str | None = None) -> IotdaInstance:
    """Create the two products."""
    for product in (GATEWAYS, SENSORS):
        instance.products.create(
            name="product", device_type="m1", product_id=product, app_id=app_id,
            manufacturer_name="acme",
        )  # fmt: skip
    return instance


def vouch(instance: IotdaInstance, authority: pki.RootAuthority = DEVICE_CA) -> str:
    """Upload a CA, and prove that its key is ours."""
    uploaded = instance.authorities.upload(authority.pem)
    proof = authority.issue_client([(CN, uploaded.verify_code)], BEGIN, END)
    instance.authorities.verify(uploaded.certificate_id, proof.certificate_pem)
    return uploaded.certificate_id


def provision(instance: IotdaInstance, certificate_id: str, body: object = BY_NAME) -> str:
    """Let devices of a CA register themselves."""
    template = instance.templates.create("by-name", body)
    changes = {"template_id": template.template_id, "provision_enable": True}
    instance.authorities.update(certificate_id, changes)
    return template.template_id


@contextlib.asynccontextmanager
async def served(
    options: HuaweiCloudOptions | None = None,
    *,
    rules: HuaweiRules | None = None,
    clock: Clock | None = None,
    limits: InstanceLimits | None = None,
) -> AsyncIterator[HuaweiCloud]:
    """Serve an instance "one" with two products and one gateway that knows a secret."""
    made = platform(clock, limits)
    furnish(made.create("one")).devices.add(
        node_id="gw-0001", product_id=GATEWAYS, auth=DeviceAuth(secret=SECRET)
    )
    options = replace(options or HuaweiCloudOptions(), rules=rules or HuaweiRules())
    async with HuaweiCloud(made, authority=AUTHORITY, options=options) as cloud:
        yield cloud


def one(cloud: HuaweiCloud) -> IotdaInstance:
    return cloud.platform.instances["one"]


def certificate(
    name: str = "gateway-0001",
    *more: tuple[str, str],
    authority: pki.RootAuthority = DEVICE_CA,
    rsa_key: bool = False,
) -> pki.KeyedCertificate:
    return authority.issue_client([(CN, name), *more], BEGIN, END, rsa_key=rsa_key)


def fingerprint(shown: pki.KeyedCertificate, name: str = "sha256") -> str:
    return hashlib.new(name, ssl.PEM_cert_to_DER_cert(shown.certificate_pem)).hexdigest()


def showing(
    shown: pki.KeyedCertificate | None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    """Return the TLS of a client that shows a certificate."""
    context = trusting()
    context.maximum_version = newest
    if shown:
        shown.present(context)
    return context


@dataclass(frozen=True)
class Hello:
    """The fields of a CONNECT."""

    device_id: str = GATEWAY
    secret: str = ""
    sig: str = "0"
    hour: str = HOUR
    keepalive: int = 120
    client: str | None = None
    username: str | None = None
    password: str | None = None
    level: int = 4

    @property
    def packet(self) -> bytes:
        client = (
            f"{self.device_id}_0_{self.sig}_{self.hour}" if self.client is None else self.client
        )
        texts = [client, self.device_id if self.username is None else self.username]
        proof = self.password
        if self.secret and proof is None:
            proof = hmac.new(self.hour.encode(), self.secret.encode(), "sha256").hexdigest()
        flags = 0x82 | (0x40 if proof is not None else 0)
        texts += [proof] if proof is not None else []
        sized = b"".join(struct.pack("!H", len(t.encode())) + t.encode() for t in texts)
        body = b"\0\4MQTT" + struct.pack("!BBH", self.level, flags, self.keepalive) + sized
        return b"\x10" + _length(len(body)) + body


def _length(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded, number = encoded + bytes((number & 0x7F | 0x80,)), number >> 7
    return encoded + bytes((number,))


async def greet(
    cloud: HuaweiCloud,
    hello: Hello,
    shown: pki.KeyedCertificate | None = None,
    instance: str = "one",
) -> int | None:
    """Connect, learn the code, and leave."""
    host = cloud.platform.instances[instance].domain
    async with wire(cloud.port, showing(shown), hello.packet, host) as link:
        return await link.code()


@dataclass
class Gateway:
    """A connected gateway, or any device."""

    wire: Wire
    device_id: str
    events: list[dict[str, Any]] = field(default_factory=list)
    others: list[tuple[str, bytes]] = field(default_factory=list)
    acks: list[bytes] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def up(self) -> str:
        return f"$oc/devices/{self.device_id}/sys/events/up"

    @property
    def down(self) -> str:
        return f"$oc/devices/{self.device_id}/sys/events/down"

    def publish(self, topic: str, payload: object, qos: int = 0) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        number = struct.pack("!H", next(self.numbers)) if qos else b""
        body = struct.pack("!H", len(topic.encode())) + topic.encode() + number + data
        self.wire.writer.write(bytes((0x30 | qos << 1,)) + _length(len(body)) + body)

    async def subscribe(self, filters: Sequence[str], qos: int = 1) -> list[int]:
        texts = b"".join(
            struct.pack("!H", len(f.encode())) + f.encode() + bytes((qos,)) for f in filters
        )
        body = struct.pack("!H", next(self.numbers)) + texts
        self.wire.writer.write(b"\x82" + _length(len(body)) + body)
        return list((await self._until(0x90))[2:])

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        texts = b"".join(struct.pack("!H", len(f.encode())) + f.encode() for f in filters)
        body = struct.pack("!H", next(self.numbers)) + texts
        self.wire.writer.write(b"\xa2" + _length(len(body)) + body)
        await self._until(0xB0)

    async def served(self) -> None:
        """Wait until everything sent before has been served, and received."""
        self.wire.writer.write(b"\xc0\x00")
        await self._until(0xD0)

    def request(self, name: str, paras: object, event_id: str | None = "e-1") -> None:
        event = {"service_id": "$sub_device_manager", "event_type": name, "paras": paras}
        event |= {"event_time": "20260102T030405Z"}
        event |= {} if event_id is None else {"event_id": event_id}
        self.publish(self.up, {"services": [event]})

    async def receive(self) -> dict[str, Any]:
        """Return the next event."""
        while not self.events:
            await self._read()
        return self.events.pop(0)

    async def other(self) -> tuple[str, bytes]:
        """Return topic and payload of the next message that is no event."""
        while not self.others:
            await self._read()
        return self.others.pop(0)

    async def ask(self, name: str, paras: object) -> dict[str, Any]:
        """Return the paras of the response."""
        event_id = f"e-{next(self.numbers)}"
        self.request(name, paras, event_id)
        received = await self.receive()
        assert received["event_id"] == event_id
        answered: dict[str, Any] = received["paras"]
        return answered

    async def add(self, *nodes: str) -> dict[str, Any]:
        return await self.ask("add_sub_device_request", {"devices": [new(n) for n in nodes]})

    async def report(self, statuses: Mapping[str, str]) -> dict[str, Any]:
        listed = [{"device_id": d, "status": s} for d, s in statuses.items()]
        return await self.ask("sub_device_update_status", {"device_statuses": listed})

    async def sync(self, **paras: object) -> list[dict[str, Any]]:
        """Return what a synchronization says."""
        self.request("sub_device_sync_request", paras)
        await self.served()
        received, self.events = self.events, []
        return received

    async def _until(self, kind: int) -> bytes:
        while (found := await self._read())[0] != kind:
            pass
        return found[1]

    async def _read(self) -> tuple[int, bytes]:
        reader = self.wire.reader
        async with asyncio.timeout(PATIENCE):
            head, length, shift = (await reader.readexactly(1))[0], 0, 0
            while True:
                byte = (await reader.readexactly(1))[0]
                length, shift = length | (byte & 0x7F) << shift, shift + 7
                if not byte & 0x80:
                    break
            body = await reader.readexactly(length)
        if head >> 4 == 3:
            self._take(head, body)
        elif head == 0x40:
            self.acks.append(body)
        return head, body

    def _take(self, head: int, body: bytes) -> None:
        size = 2 + int.from_bytes(body[:2], "big")
        topic, payload = body[2:size].decode(), body[size + (2 if head & 0x06 else 0) :]
        if topic != self.down:
            self.others.append((topic, payload))
            return
        message = json.loads(payload)
        assert message["object_device_id"] == self.device_id
        self.events += message["services"]


@contextlib.asynccontextmanager
async def device(
    cloud: HuaweiCloud,
    hello: Hello | None = None,
    shown: pki.KeyedCertificate | None = None,
    instance: str = "one",
) -> AsyncIterator[Gateway]:
    """Connect a device; the one gateway there is, with its secret, unless another is named."""
    host = cloud.platform.instances[instance].domain
    hello = hello or Hello(secret=SECRET)
    async with wire(cloud.port, showing(shown), hello.packet, host) as link:
        assert await link.code() == 0
        yield Gateway(link, hello.device_id)


def child(node: str) -> str:
    return f"{SENSORS}_{node}"


def new(node: str, **more: object) -> dict[str, object]:
    return {"node_id": node, "product_id": SENSORS, **more}


def ledger_of(
    cloud: HuaweiCloud, device_id: str = GATEWAY, instance: str = "one"
) -> dict[str, Any]:
    """Return what the ledgers say of a device, and of a gateway."""
    truth: Any = cloud.truth()
    found: Any = truth["instances"][instance]
    ledger: dict[str, Any] = found["devices"][device_id] | found["gateways"].get(device_id, {})
    return ledger
