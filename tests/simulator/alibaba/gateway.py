"""A gateway of the Alibaba cloud with sub-devices, byte by byte.

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
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.simulator.alibaba.devices import AlibabaNodeType
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.pki import KeyedCertificate
from tests.simulator.alibaba.client import (
    PRODUCT,
    PRODUCT_SECRET,
    connect_packet,
    logging_in,
    obtain,
    registering,
)
from tests.simulator.wire import PATIENCE, Wire, trusting, wire
from tests.support.simulated_ca import CERTIFICATE

GATEWAYS, GATEWAYS_SECRET = "a1Gateways1", "g4Hq7Zx8Wv3Rk1Ls"
SENSORS, SENSORS_SECRET = "a1Sensors22", "s5Tq0Zx8Wv3Rk1Ls"
GATEWAY, OTHER_GATEWAY = "gateway-1", "gateway-2"


CHILDREN = [f"SEN-{number:04}" for number in range(60)]
CHILD, SECOND = CHILDREN[:2]
NODES = {GATEWAYS: AlibabaNodeType.GATEWAY, SENSORS: AlibabaNodeType.SUB_DEVICE}


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def site(
    rules: AlibabaRules | None = None,
    *,
    clock: Callable[[], float] | None = None,
    certificate: KeyedCertificate = CERTIFICATE,
    **options: Any,
) -> AlibabaCloud:
    """A cloud of two gateways, sixty sub-devices and a direct device, not yet served."""
    chosen = {"rate": 0, "nodes": NODES, "rules": rules or AlibabaRules(child_logins=0), **options}
    return AlibabaCloud(
        {GATEWAYS: GATEWAYS_SECRET, SENSORS: SENSORS_SECRET, PRODUCT: PRODUCT_SECRET},
        [
            (PRODUCT, "direct-1"),
            (GATEWAYS, GATEWAY),
            (GATEWAYS, OTHER_GATEWAY),
            *((SENSORS, name) for name in CHILDREN),
        ],
        certificate=certificate,
        clock=clock or Clock(),
        random=random.Random(7).randbytes,
        options=AlibabaCloudOptions(**chosen),
    )


def ledger_of(cloud: AlibabaCloud, name: str = GATEWAY) -> Any:
    """What the cloud's ledger says of a gateway."""
    truth: Any = cloud.truth()
    return truth["gateways"][GATEWAYS][name]


def device(cloud: AlibabaCloud, name: str = CHILD) -> Any:
    """What the cloud's ledger says of a sub-device."""
    truth: Any = cloud.truth()
    return truth["devices"][SENSORS][name]


def sign(key: str, **fields: str) -> str:
    text = "".join(name + fields[name] for name in sorted(fields))
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def meaning(name: str, product: str = SENSORS) -> dict[str, str]:
    return {"productKey": product, "deviceName": name}


def attaching(name: str, secret: str, **changes: Any) -> dict[str, Any]:
    """One entry of thing/topo/add."""
    fields = meaning(name) | {"clientId": f"{SENSORS}.{name}", "timestamp": "1700000000000"}
    proof = {"signmethod": "hmacSha256", "sign": sign(secret, **fields)}
    return {**fields, **proof, **changes}


def going_online(name: str, secret: str, **changes: Any) -> dict[str, Any]:
    """Parameters of combine/login; the client id with its bars is signed whole."""
    fields = meaning(name) | {"clientId": f"{SENSORS}.{name}|a=b|", "timestamp": "1700000000000"}
    more = {"signMethod": "hmacSha256", "sign": sign(secret, **fields), "cleanSession": "false"}
    return {**fields, **more, **changes}


def proxied(name: str, key: str = SENSORS_SECRET, **changes: Any) -> dict[str, Any]:
    """One entry of product_register."""
    fields = meaning(name) | {"random": "8Ygb7ULYh53B6OA"}
    return {**fields, "signMethod": "hmacSha256", "sign": sign(key, **fields), **changes}


def topic(method: str, product: str = GATEWAYS, name: str = GATEWAY) -> str:
    tree = "ext/session" if method.startswith("combine.") else "sys"
    return f"/{tree}/{product}/{name}/{method.replace('.', '/')}"


ERROR = f"/ext/error/{GATEWAYS}/{GATEWAY}"
UNSOLICITED = ["thing.topo.change", "thing.topo.add.notify", "thing.gateway.permit"]
ASKING = [
    "thing.sub.register",
    "thing.proxy.provisioning.product_register",
    "thing.topo.add",
    "thing.topo.delete",
    "thing.topo.get",
    "thing.list.found",
    "combine.login",
    "combine.batch_login",
    "combine.logout",
    "combine.batch_logout",
]


@dataclass
class Gateway:
    """One connection of a logged-in gateway.  `received`: messages that were not waited for."""

    wire: Wire
    name: str = GATEWAY
    received: list[tuple[str, bytes]] = field(default_factory=list)
    ids: Any = field(default_factory=lambda: itertools.count(1))

    async def subscribe(self, topics: Sequence[str]) -> list[int]:
        """Return what SUBACK grants."""
        filters = b"".join(_sized(one) + b"\1" for one in topics)
        self.wire.writer.write(b"\x82" + _length(2 + len(filters)) + b"\0\7" + filters)
        while (packet := await self._packet())[0] >> 4 != 9:
            self._keep(*packet)
        return list(packet[1][2:])

    async def unsubscribe(self, one: str) -> None:
        self.wire.writer.write(b"\xa2" + _length(4 + len(one)) + b"\0\7" + _sized(one))
        while (packet := await self._packet())[0] >> 4 != 11:
            self._keep(*packet)

    async def listen(self) -> None:
        """Subscribe to all that is this gateway's own, eight topics at a time."""
        wanted = [self.own(f"{asked}_reply") for asked in ASKING]
        wanted += [self.own(pushed) for pushed in UNSOLICITED]
        wanted.append(f"/ext/error/{GATEWAYS}/{self.name}")
        for at in range(0, len(wanted), 8):
            assert set(await self.subscribe(wanted[at : at + 8])) == {1}

    def own(self, method: str) -> str:
        return topic(method, name=self.name)

    def send(self, to: str, body: object, qos: int = 0) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        content = _sized(to) + (b"\0\x09" if qos else b"") + payload
        self.wire.writer.write(bytes((0x30 | qos << 1,)) + _length(len(content)) + content)

    async def receive(self, on: str) -> Any:
        """Return the next message on a topic, earlier or later."""
        while True:
            for at, (name, payload) in enumerate(self.received):
                if name == on:
                    del self.received[at]
                    return json.loads(payload)
            self._keep(*await self._packet())

    async def ask(self, method: str, params: object, **envelope: Any) -> Any:
        """Ask, and return the reply."""
        body = {"id": str(next(self.ids)), "version": "1.0", "params": params, **envelope}
        self.send(self.own(method), body)
        return await self.receive(self.own(f"{method}_reply"))

    async def code(self, method: str, params: object) -> int:
        """Ask, and return the code of the reply."""
        code: int = (await self.ask(method, params))["code"]
        return code

    async def served(self) -> list[tuple[str, bytes]]:
        """Wait until all that was sent was taken; return what came unasked until then."""
        self.wire.writer.write(b"\xc0\x00")
        while (packet := await self._packet())[0] >> 4 != 13:
            self._keep(*packet)
        return self.received

    async def adopt(self, *names: str) -> dict[str, str]:
        """Register and attach sub-devices; return their secrets."""
        granted = await self.ask("thing.sub.register", [meaning(name) for name in names])
        assert granted["code"] == 200, granted
        secrets = {one["deviceName"]: one["deviceSecret"] for one in granted["data"]}
        entries = [attaching(name, secret) for name, secret in secrets.items()]
        assert await self.code("thing.topo.add", entries) == 200
        return secrets

    async def _packet(self) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE):
            head, length, shift = (await self.wire.reader.readexactly(1))[0], 0, 0
            more = 0x80
            while more & 0x80:
                more = (await self.wire.reader.readexactly(1))[0]
                length |= (more & 0x7F) << shift
                shift += 7
            return head, await self.wire.reader.readexactly(length)

    def _keep(self, head: int, body: bytes) -> None:
        if head >> 4 == 3:
            size = 2 + int.from_bytes(body[:2], "big")
            self.received.append((body[2:size].decode(), body[size:]))


@contextlib.asynccontextmanager
async def gateway(
    port: int, name: str = GATEWAY, secret: str | None = None, **options: str
) -> AsyncIterator[Gateway]:
    """Register a gateway unless its secret is known, and log it in.

    options: of its client id, besides those that it needs.
    """
    who = registering(name, key=GATEWAYS_SECRET).but(product=GATEWAYS)
    secret = secret or await obtain(port, who, trusting())
    login = logging_in(name, secret).but(product=GATEWAYS, options=options)
    hello = connect_packet(login)
    async with wire(port, trusting(), hello) as one:
        assert await one.code() == 0
        yield Gateway(one, name)


def _sized(text: str) -> bytes:
    return struct.pack("!H", len(text.encode())) + text.encode()


def _length(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*encoded, number))
