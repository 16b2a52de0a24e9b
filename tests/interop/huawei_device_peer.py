"""A device of Huawei, driven by JSON lines; run by the interpreter of .venv-vendor.

It does what the vendor's device SDK for Python does, as huawei_device_sdk.json has recorded it, for
that SDK is in no package registry.  The MQTT client is the same, and is set up in the same way.

{"do": "connect", "device": …, "secret": …}   →   {"ok": 0}   or   {"error": …}
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import queue
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The environment of the linters has another version.
from paho.mqtt import client as mqtt

PATIENCE = 60.0
RECORDED: dict[str, Any] = json.loads(
    Path(__file__).with_name("huawei_device_sdk.json").read_text()
)
REQUEST = re.compile(r"\$oc/devices/([^/]+)/sys/(.+)/request_id=([^/]+)")
DOMAIN = ".myhuaweicloud.com"


class Peer:
    """One device.  facts: host, port, ca_file."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        self._codes: queue.Queue[int] = queue.Queue()
        self._received: queue.Queue[list[Any]] = queue.Queue()
        self._device = ""
        self._client: Any = None

    def connect(self, device: str, secret: str) -> int:
        """Log in with a secret; return the code of the CONNACK."""
        hour = time.strftime("%Y%m%d%H", time.gmtime())
        known = RECORDED["connect"]
        named = known["client_id"].format(device=device, hour=hour)
        self._device = device
        self._client = mqtt.Client(named, clean_session=known["clean"])
        password = hmac.new(hour.encode(), secret.encode(), hashlib.sha256).hexdigest()
        self._client.username_pw_set(device, password)
        self._client.tls_set(
            self._facts["ca_file"], cert_reqs=ssl.CERT_OPTIONAL, tls_version=ssl.PROTOCOL_TLSv1_2
        )
        self._client.tls_insecure_set(True)
        self._client.on_connect = lambda *given: self._codes.put(given[3])
        self._client.on_message = self._take
        self._client.connect(self._facts["host"], self._facts["port"], known["keepalive"])
        self._client.loop_start()
        return self._codes.get(timeout=PATIENCE)

    def play(self, part: str, product: str = "") -> int:
        """Publish a part of the recording; return how many messages were acknowledged."""
        for one in RECORDED[part]:
            text = json.dumps(one["payload"])
            text = text.replace("{device}", self._device).replace("{product}", product)
            topic = f"$oc/devices/{self._device}/sys/{one['use']}"
            sent = self._client.publish(topic, text, qos=1)
            sent.wait_for_publish(PATIENCE)
        return len(RECORDED[part])

    def wait(self) -> list[Any]:
        """Return topic and payload of the next message, requests included."""
        return self._received.get(timeout=PATIENCE)

    def _take(self, _: object, __: object, message: Any) -> None:
        """Respond to a request as the SDK did; keep every message."""
        body = json.loads(message.payload)
        if found := REQUEST.fullmatch(message.topic):
            device, use, request_id = found.groups()
            if use in RECORDED["responses"]:
                topic = f"$oc/devices/{device}/sys/{use}/response/request_id={request_id}"
                self._client.publish(topic, json.dumps(RECORDED["responses"][use]), qos=1)
        self._received.put([message.topic.partition("/sys/")[2], body])


def lead_home() -> None:
    """Let the vendor's host names be this machine."""
    found = socket.getaddrinfo

    def lead(host: Any, *rest: Any, **more: Any) -> Any:
        return found("127.0.0.1" if str(host).endswith(DOMAIN) else host, *rest, **more)

    setattr(socket, "getaddrinfo", lead)  # noqa: B010  # an assignment would have to be as typed


def main() -> None:
    """Serve until standard input ends."""
    lead_home()
    peer = Peer(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        request = json.loads(line)
        verb: Callable[..., Any] = getattr(peer, request.pop("do"))
        try:
            answer = {"ok": verb(**request)}
        except Exception as error:  # noqa: BLE001  # whatever it is, the test is to see it
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)
    os._exit(0)  # the client's thread would wait for more


if __name__ == "__main__":
    main()
