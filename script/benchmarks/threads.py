"""python3 -m script.benchmarks.threads: plain paho-mqtt, with one thread for each device.

Standard input holds the facts, as JSON: cloud, port, ca (a file), devices, and what else a cloud
wants: see `DEVICES`.  What it took is printed, as JSON: see `Took`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import paho.mqtt.client as paho

from gatewayd.cloud.alibaba import payloads
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.huawei.login import certificate_login
from gatewayd.cloud.mqtt import Login
from gatewayd.cloud.mqtt_broker.dynamic_security import (
    REQUEST,
    RESPONSE,
    Owner,
    client_of,
    read_results,
    role_of,
)
from gatewayd.cloud.mqtt_broker.settings import BrokerManagement, MqttBrokerSettings
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from script.benchmarks.process import memory

KEEPALIVE, PATIENCE = 300, 60.0  # seconds
SETTINGS = AlibabaSettings()
BROKER = MqttBrokerSettings("localhost", BrokerManagement(""))


@dataclass(frozen=True, slots=True)
class Took:
    """cpu, seconds: until all were online.  kept: MB of PSS that they hold then.  online: all."""

    cpu: float
    seconds: float
    kept: float
    online: int


class Device(threading.Thread):
    """Logs in, and stays.  host: of its cloud."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(daemon=True)
        self._host, self._port = host, port
        self.online = threading.Event()

    def stay(self, login: Login, context: ssl.SSLContext) -> None:
        """Log in, and serve the session.  Blocks, as this library does by itself."""
        client = self.client(login, context)
        client.on_connect = lambda *told: None if told[3] else self.online.set()
        client.loop_forever()

    def client(self, login: Login, context: ssl.SSLContext) -> Any:  # noqa: ANN401  # paho 1.6 has no types
        """Connect."""
        version = getattr(paho, "CallbackAPIVersion", None)
        first = (version.VERSION2,) if version else ()
        client = paho.Client(*first, client_id=login.client_id)
        client.username_pw_set(login.user_name, login.password.reveal() or None)
        client.tls_set_context(context)
        client.connect(self._host, self._port, KEEPALIVE)
        return client


class Registering(Device):
    """Registers, and logs in with what that brought.  facts: host, product and secret besides."""

    def __init__(self, facts: dict[str, Any], device: str, context: ssl.SSLContext) -> None:
        super().__init__(facts["host"], facts["port"])
        self._name = CloudName("alibaba", facts["product"], device)
        self._key, self._context = Secret(facts["secret"].encode()), context
        self._secret: Secret | None = None

    def run(self) -> None:
        """Have two sessions, one after the other."""
        random = secrets.token_hex(8)
        login = payloads.register_login(self._name, self._key, SETTINGS, random)
        client = self.client(login, self._context)
        client.on_message = self._heard
        client.loop_forever()
        if self._secret is not None:
            login = payloads.connect_login(self._name, self._secret, SETTINGS)
            self.stay(login, self._context)

    def _heard(self, client: Any, _: object, message: Any) -> None:  # noqa: ANN401  # paho 1.6 has no types
        self._secret = payloads.parse_push(message.topic, message.payload, self._name)
        client.disconnect()


class Showing(Device):
    """Shows a certificate.  Of each device there are: id, host, and file, PEM of all it has."""

    def __init__(self, facts: dict[str, Any], device: dict[str, str]) -> None:
        super().__init__(device["host"], facts["port"])
        self._ca, self._id, self._file = facts["ca"], device["id"], device["file"]

    def run(self) -> None:
        """Use a context that nobody shares: so does whoever has many identities."""
        context = ssl.create_default_context(cafile=self._ca)
        context.load_cert_chain(self._file)
        self.stay(certificate_login(self._id, time.time()), context)


class BrokerManager(Device):
    """Creates clients at a broker: one request for each, and none waits for another.

    facts: host, manager and password besides.
    """

    def __init__(self, facts: dict[str, Any], context: ssl.SSLContext) -> None:
        super().__init__(facts["host"], facts["port"])
        login = Login("manager", facts["manager"], Secret(facts["password"].encode()))
        self._owner = facts["manager"]
        self._done: dict[str, threading.Event] = {}
        self._client = self.client(login, context)
        self._client.on_message = self._heard
        self._client.subscribe(RESPONSE, 1)

    def run(self) -> None:
        """Receive results."""
        self._client.loop_forever()

    def create(self, name: CloudName, password: Secret) -> None:
        """Create a client with its role; return when the broker has said so.  Any thread may."""
        identity, owner = BROKER.templates.identity(name), Owner(self._owner, name.device)
        marks = [f"{name.device}-role", f"{name.device}-client"]
        self._done |= {mark: threading.Event() for mark in marks}
        commands = [
            {"command": "createRole", **role_of(identity, owner), "correlationData": marks[0]},
            {"command": "createClient", **client_of(identity, owner, 1, password),
             "correlationData": marks[1]},
        ]  # fmt: skip
        self._client.publish(REQUEST, json.dumps({"commands": commands}), 1)
        for mark in marks:
            self._done[mark].wait(PATIENCE)

    def _heard(self, _: Any, __: object, message: Any) -> None:  # noqa: ANN401  # paho 1.6 has no types
        for mark, result in read_results(message.payload).items():
            if not result.error:
                self._done[mark].set()


class Created(Device):
    """Has itself created at a broker, and logs in with the password that it has made."""

    def __init__(
        self, facts: dict[str, Any], device: str, context: ssl.SSLContext, manager: BrokerManager
    ) -> None:
        super().__init__(facts["host"], facts["port"])
        self._name = CloudName("plant", facts["product"], device)
        self._context, self._manager = context, manager

    def run(self) -> None:
        """Exist first, then be online."""
        password = Secret(secrets.token_urlsafe(32).encode())
        self._manager.create(self._name, password)
        identity = BROKER.templates.identity(self._name)
        self.stay(Login(identity.client_id, identity.user, password), self._context)


class CertifiedUser(Showing):
    """Shows a certificate at a broker, by which that knows its user."""

    def run(self) -> None:
        """Use a context that nobody shares, as `Showing`."""
        context = ssl.create_default_context(cafile=self._ca)
        context.load_cert_chain(self._file)
        self.stay(Login(self._id, self._id, Secret(b"")), context)


def _registering(facts: dict[str, Any]) -> list[Device]:
    context = ssl.create_default_context(cafile=facts["ca"])
    return [Registering(facts, device, context) for device in facts["devices"]]


def _showing(facts: dict[str, Any]) -> list[Device]:
    return [Showing(facts, device) for device in facts["devices"]]


def _certified(facts: dict[str, Any]) -> list[Device]:
    return [CertifiedUser(facts, device) for device in facts["devices"]]


def _created(facts: dict[str, Any]) -> list[Device]:
    context = ssl.create_default_context(cafile=facts["ca"])
    manager = BrokerManager(facts, context)
    manager.start()
    return [Created(facts, device, context, manager) for device in facts["devices"]]


DEVICES: Mapping[str, Callable[[dict[str, Any]], list[Device]]] = {
    "alibaba": _registering,
    "huawei": _showing,
    "mqtt": _created,
    "mqtt by certificate": _certified,
}


def lead_home() -> None:
    """Let every host be this machine, as this library cannot be told an address beside it."""
    found = socket.getaddrinfo
    setattr(socket, "getaddrinfo", lambda _, *more, **named: found("127.0.0.1", *more, **named))  # noqa: B010  # an assignment would have to be as typed


def main() -> None:
    """Let all come online at the same time."""
    lead_home()
    facts = json.load(sys.stdin)
    devices = DEVICES[facts["cloud"]](facts)
    held = memory(os.getpid()).pss
    began, used = time.perf_counter(), time.process_time()
    for device in devices:
        device.start()
    online = sum(device.online.wait(max(0, began + PATIENCE - time.perf_counter()))
                 for device in devices)  # fmt: skip
    seconds, used = time.perf_counter() - began, time.process_time() - used
    took = Took(used, seconds, memory(os.getpid()).pss - held, online)
    print(json.dumps(asdict(took)), flush=True)
    os._exit(0)  # hundreds of threads are in OpenSSL, which must not be cleaned up below them


if __name__ == "__main__":
    main()
