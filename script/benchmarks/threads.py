"""python3 -m script.benchmarks.threads: plain paho-mqtt, with one thread for each device.

Standard input holds the facts, as JSON: host, port, ca (a file), product, secret, devices.
What it took is printed, as JSON: see `Took`.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import paho.mqtt.client as paho

from gatewayd.cloud.alibaba import messages
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.login import Login
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from script.benchmarks.process import memory

KEEPALIVE, PATIENCE = 300, 60.0  # seconds
SETTINGS = AlibabaSettings()


@dataclass(frozen=True, slots=True)
class Took:
    """cpu, seconds: until all were online.  kept: MB of PSS that they hold then.  online: all."""

    cpu: float
    seconds: float
    kept: float
    online: int


class Device(threading.Thread):
    """Registers, logs in with what that brought, and stays."""

    def __init__(self, facts: dict[str, Any], name: CloudName, context: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self._facts, self._name, self._context = facts, name, context
        self._secret: Secret | None = None
        self.online = threading.Event()

    def run(self) -> None:
        """Block, as this library does by itself."""
        key, random = Secret(self._facts["secret"].encode()), secrets.token_hex(8)
        client = self._client(messages.register_login(self._name, key, SETTINGS, random))
        client.on_message = self._heard
        client.loop_forever()
        if self._secret is None:
            return
        client = self._client(messages.connect_login(self._name, self._secret, "hmacsha256"))
        client.on_connect = lambda *told: None if told[3] else self.online.set()
        client.loop_forever()

    def _client(self, login: Login) -> Any:  # noqa: ANN401  # paho 1.6 has no types
        version = getattr(paho, "CallbackAPIVersion", None)
        first = (version.VERSION2,) if version else ()
        client = paho.Client(*first, client_id=login.client_id)
        client.username_pw_set(login.user_name, login.password.reveal())
        client.tls_set_context(self._context)
        client.connect(self._facts["host"], self._facts["port"], KEEPALIVE)
        return client

    def _heard(self, client: Any, _: object, message: Any) -> None:  # noqa: ANN401  # likewise
        self._secret = messages.parse_push(message.topic, message.payload, self._name)
        client.disconnect()


def main() -> None:
    """Let all come online at the same time."""
    facts = json.load(sys.stdin)
    context = ssl.create_default_context(cafile=facts["ca"])
    names = [CloudName("alibaba", facts["product"], device) for device in facts["devices"]]
    held = memory(os.getpid()).pss
    began, used = time.perf_counter(), time.process_time()
    devices = [Device(facts, name, context) for name in names]
    for device in devices:
        device.start()
    online = sum(device.online.wait(max(0, began + PATIENCE - time.perf_counter()))
                 for device in devices)  # fmt: skip
    seconds, used = time.perf_counter() - began, time.process_time() - used
    print(json.dumps(asdict(Took(used, seconds, memory(os.getpid()).pss - held, online))))


if __name__ == "__main__":
    main()
