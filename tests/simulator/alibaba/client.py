"""A client of the Alibaba cloud, byte by byte, and paho with the vendor's options.

Written from the vendor's pages, and shares no code with gatewayd: neither client nor simulator
can then lend it a mistake.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import paho.mqtt.client as mqtt

from gatewayd.testing.waiting import until
from tests.simulator.wire import wire

PRODUCT, PRODUCT_SECRET = "a1Gt7n5yTt8", "p5Tq0Zx8Wv3Rk1Ls"


@dataclass(frozen=True)
class Credentials:
    """The fields of a CONNECT; `password` is signed when it is None."""

    name: str
    key: str
    options: dict[str, str]
    product: str = PRODUCT
    base: str = ""
    password: str | None = None
    username: str | None = None
    client: str | None = None
    level: int = 4
    keepalive: int = 60

    @property
    def client_id(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return self.client or f"{self._base}|{options}|"

    @property
    def user(self) -> str:
        return f"{self.name}&{self.product}" if self.username is None else self.username

    @property
    def proof(self) -> str:
        if self.password is not None:
            return self.password
        if "authType" in self.options:
            text = f"deviceName{self.name}productKey{self.product}"
            text += f"random{self.options.get('random', '')}"
        else:
            text = f"clientId{self._base}deviceName{self.name}productKey{self.product}"
            if "timestamp" in self.options:
                text += "timestamp" + self.options["timestamp"]
        digest = self.options.get("signmethod", "hmacmd5").removeprefix("hmac")
        digest = digest if digest in hashlib.algorithms_available else "sha256"
        return hmac.new(self.key.encode(), text.encode(), digest).hexdigest()

    @property
    def _base(self) -> str:
        return self.base or f"{self.product}.{self.name}"

    def but(self, **changes: Any) -> Credentials:
        """Return these with other fields; of `options`, None takes one away."""
        options = self.options | changes.pop("options", {})
        kept = {name: value for name, value in options.items() if value is not None}
        return replace(self, options=kept, **changes)


def registering(name: str, *, key: str = PRODUCT_SECRET, method: str = "hmacsha256") -> Credentials:
    options = {"securemode": "2", "authType": "register", "random": "567345", "signmethod": method}
    return Credentials(name, key, options)


def logging_in(name: str, secret: str, *, method: str = "hmacsha256") -> Credentials:
    return Credentials(name, secret, {"securemode": "2", "signmethod": method})


def connect_packet(who: Credentials) -> bytes:
    strings = b"".join(
        struct.pack("!H", len(text)) + text
        for text in (who.client_id.encode(), who.user.encode(), who.proof.encode())
    )
    body = b"\0\4MQTT" + struct.pack("!BBH", who.level, 0xC2, who.keepalive) + strings
    length = (len(body) & 0x7F | 0x80, len(body) >> 7) if len(body) > 0x7F else (len(body),)
    return bytes((0x10, *length)) + body


async def knock(port: int, who: Credentials, context: ssl.SSLContext | None) -> int | None:
    """Connect, learn the code, and leave."""
    async with wire(port, context, connect_packet(who)) as one:
        return await one.code()


async def obtain(port: int, who: Credentials, context: ssl.SSLContext) -> str:
    """Register, and leave in good order."""
    async with wire(port, context, connect_packet(who)) as one:
        assert await one.code() == 0
        received = await one.push()
        one.leave()
        await one.ended()
    assert received is not None
    secret: str = json.loads(received[1])["deviceSecret"]
    return secret


_CODES = {132: 1, 133: 2, 134: 4, 135: 5, 136: 3}  # paho 2 translates into MQTT 5


@dataclass
class Paho:
    """The paho client on a thread of its own, without a subscription and without reconnecting."""

    codes: list[int] = field(default_factory=list)
    messages: list[tuple[str, bytes, int]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    client: Any = None

    def _connected(self, _: object, __: object, ___: object, code: Any, *____: object) -> None:
        number = int(getattr(code, "value", code))
        self.codes.append(_CODES.get(number, number))


@contextlib.asynccontextmanager
async def paho(port: int, who: Credentials, context: ssl.SSLContext) -> AsyncIterator[Paho]:
    """Connect with paho, and wait for a CONNACK."""
    one, version = Paho(), getattr(mqtt, "CallbackAPIVersion", None)
    chosen = (version.VERSION2,) if version else ()
    client = mqtt.Client(*chosen, client_id=who.client_id, reconnect_on_failure=False)
    one.client = client
    client.username_pw_set(who.user, who.proof)
    client.tls_set_context(context)
    client.on_connect = one._connected
    client.on_message = lambda _, __, m: one.messages.append((m.topic, m.payload, m.qos))
    client.on_disconnect = lambda *_: one.done.append("disconnect")
    client.on_publish = lambda *_: one.done.append("publish")
    client.on_subscribe = lambda *_: one.done.append("subscribe")
    client.on_unsubscribe = lambda *_: one.done.append("unsubscribe")
    client.connect_async("localhost", port, keepalive=who.keepalive)
    client.loop_start()
    try:
        await until(lambda: one.codes)
        yield one
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)
