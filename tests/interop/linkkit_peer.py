"""The vendor's Python SDK, driven by JSON lines; run by the interpreter of .venv-vendor.

{"do": "connect", "product": …, "device": …, "secret": …}   →   {"ok": …}   or   {"error": …}
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
from collections.abc import Callable
from typing import Any

# The environment of the linters does not have it.
from linkkit import linkkit  # type: ignore[import-not-found]  # of .venv-vendor

PATIENCE = 60.0
REGISTRAR = "iot-auth.cn-shanghai.aliyuncs.com"


class Peer:
    """One device.  facts: host, port, https_port, and ca, in PEM."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        self._received: queue.Queue[Any] = queue.Queue()
        self._kit: Any = None

    def _make(self, product: str, device: str, region: str = "localhost", **proof: str) -> Any:
        given = {"device_secret": None, **proof}
        kit = linkkit.LinkKit(region, product, device, **given)
        ca, host, port = self._facts["ca"], self._facts["host"], self._facts["port"]
        kit.config_mqtt(port=port, endpoint=host, cadata=ca)
        self._kit = kit
        return kit

    def register(self, product: str, device: str, key: str, kind: str) -> Any:
        """Register; return a secret, or client id, user name and token."""
        kit = self._make(product, device, auth_type=kind, product_secret=key)
        kit.on_device_dynamic_register = lambda code, secret, _: self._received.put([code, secret])
        kit.on_device_dynamic_register_nwl_reply = lambda *answer: self._received.put(answer)
        kit.connect_async()
        return self._wait()

    def register_by_https(self, product: str, device: str, key: str) -> Any:
        """Register over HTTPS, and log in with what that brought."""
        lead_to(self._facts["https_port"])
        kit = self._make(product, device, region="cn-shanghai", product_secret=key)
        kit.on_device_dynamic_register = lambda code, secret, _: self._received.put([code, secret])
        kit.on_connect = lambda *_: self._received.put("connected")
        kit.connect_async()
        return [self._wait(), self._wait()]

    def connect(self, product: str, device: str, tsl: str = "", **proof: str) -> Any:
        """Log in.  tsl: the file with the model of the product, for a device that reports."""
        kit = self._make(product, device, **proof)
        kit.on_connect = lambda _, code, __: self._received.put(code)
        if tsl:
            assert kit.thing_setup(tsl) == 0
            self._listen()
        for name in ("register", "product_register", "add", "delete", "login", "logout"):
            suffix = "subdev_topo_reply" if name in ("add", "delete") else "subdev_reply"
            setattr(kit, f"on_gateway_{name}_{suffix}", self._answered)
        kit.on_gateway_topo_change = lambda _, params, __: self._received.put(params)
        kit.connect_async()
        code = self._wait()
        if tsl:
            assert self._wait() == "enabled"
        return code

    def _listen(self) -> None:
        """Keep what comes about the model."""
        put = self._received.put
        self._kit.on_thing_enable = lambda _: put("enabled")
        self._kit.on_thing_prop_post = lambda _, code, data, *__: put([code, data])
        self._kit.on_thing_event_post = lambda event, _, code, *__: put([event, code])
        self._kit.on_thing_prop_changed = lambda params, _: put(params)
        self._kit.on_thing_call_service = self._obey

    def _obey(self, service: str, number: object, params: object, _: object) -> None:
        self._received.put([service, params])
        self._kit.thing_answer_service(service, number, 200, {"done": 1})

    def listen_to_rrpcs(self, topic: str) -> Any:
        """Answer RRPCs on a topic of a user by what they say; return 0."""
        kit = self._kit
        kit.on_topic_rrpc_message = lambda number, _, payload, *__: kit.thing_answer_rrpc(
            number, payload
        )
        return kit.subscribe_rrpc_topic(topic)[0]

    def report(self, values: dict[str, object]) -> Any:
        """Report properties; return code and data of the reply."""
        assert self._kit.thing_post_property(values)[0] == 0
        return self._wait()

    def raise_event(self, event: str, values: dict[str, object]) -> Any:
        """Report an event; return its name and the code of the reply."""
        assert self._kit.thing_trigger_event((event, values))[0] == 0
        return self._wait()

    def ask(self, name: str, devices: list[list[str]]) -> Any:
        """Have the SDK's gateway function of this name ask; return code and data."""
        code, _ = getattr(self._kit, f"gateway_{name}")(devices)
        assert code == 0, code
        return self._wait()

    def wait(self) -> Any:
        """Return what comes next."""
        return self._wait()

    def _answered(self, _: object, code: object, data: object, __: object, ___: object) -> None:
        self._received.put([code, data])

    def _wait(self) -> Any:
        return self._received.get(timeout=PATIENCE)


def lead_to(port: int) -> None:
    """Let the vendor's host name, which the SDK has built in, be this machine."""
    found = socket.getaddrinfo

    def lead(host: Any, service: Any, *rest: Any, **more: Any) -> Any:
        if host == REGISTRAR:
            host, service = "127.0.0.1", port
        return found(host, service, *rest, **more)

    setattr(socket, "getaddrinfo", lead)  # noqa: B010  # an assignment would have to be as typed


def main() -> None:
    """Serve until standard input ends."""
    peer = Peer(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        request = json.loads(line)
        verb: Callable[..., Any] = getattr(peer, request.pop("do"))
        try:
            answer = {"ok": verb(**request)}
        except Exception as error:  # noqa: BLE001  # whatever it is, the test is to see it
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)
    os._exit(0)  # the SDK's threads would go on connecting


if __name__ == "__main__":
    main()
