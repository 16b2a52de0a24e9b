"""An account at the simulated Alibaba Cloud IoT Platform, for a plant."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from gatewayd.simulator import pki
from gatewayd.simulator.account import CERTIFICATES, LOOPBACK, AccountOptions, CloudVerb
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.simulator.alibaba.devices import AlibabaNodeType
from gatewayd.simulator.alibaba.open_api.management import OpenApiOptions
from gatewayd.simulator.alibaba.open_api.server import OpenApi
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.alibaba.thing import specification
from gatewayd.simulator.alibaba.thing.commands import ThingCommand

PRODUCT = "a1SimProdKey"
REGION, OTHER_REGION = "cn-shanghai", "us-west-1"
"""The region of the account's instance, an old public one, and one where it has none."""
ENDPOINT = "{product}.iot-as-mqtt.{region}.aliyuncs.com"
"""The host of a product in a region ("Manage endpoints", document_detail/147356)."""
GATEWAY = ("a1SimGateway", "gateway-1")
"""productKey and deviceName of the gateway itself."""
ANSWER = 8.0
"""Seconds that the cloud waits for a device's answer to a command ("InvokeThingService")."""

MODEL: Mapping[str, Any] = {
    "properties": [
        {"identifier": "CurrentTemperature", "accessMode": "r", "dataType": {"type": "double"}},
        {"identifier": "RelativeHumidity", "accessMode": "r", "dataType": {"type": "double"}},
        {"identifier": "ReportInterval", "accessMode": "rw", "dataType": {"type": "int"}},
    ],
    "events": [
        {
            "identifier": "Overheated",
            "outputData": [
                {"identifier": "CurrentTemperature", "dataType": {"type": "double"}},
            ],
        }
    ],
    "services": [
        {
            "identifier": "Calibrate",
            "callType": "async",
            "inputData": [{"identifier": "Offset", "dataType": {"type": "double"}}],
        },
        {"identifier": "Measure", "callType": "sync"},
    ],
}
"""The model of the children's product: sensors of temperature and humidity."""
READING: Mapping[str, object] = {"CurrentTemperature": 21.5, "RelativeHumidity": 40.5}
"""What such a sensor reports."""


class SimulatedAlibabaAccount:
    """An account of the simulated Alibaba cloud.  Implements CloudAccount.

    Its files: product-secret and gateway-secret, and open-api.json, with the keys for calls.
    """

    def __init__(self, options: AccountOptions) -> None:
        products = () if options.empty else (PRODUCT, GATEWAY[0])
        new = {key: secrets.token_urlsafe(12) for key in products}
        keys = {"access_key": secrets.token_hex(8), "secret_key": secrets.token_hex(15)}
        self._secrets: dict[str, str]
        self._keys: dict[str, str]
        self._secrets, self._keys, state = options.kept or (new, keys, None)
        self._product = PRODUCT
        self.verbs: Mapping[str, CloudVerb] = {
            "reset": self._reset,
            "delete": self._delete,
            "secret": self._secret,
            "set_properties": self._set_properties,
            "invoke": self._invoke,
            "rrpc": self._rrpc,
            "publish": self._publish,
            "reports": self._reports,
            "report": self._report,
            "model": self._model,
            "dynreg": self._dynreg,
            "use": self._use,
        }
        self._serials = options.serials
        created = [] if options.empty else [GATEWAY, *((PRODUCT, one) for one in options.serials)]
        self._cloud = AlibabaCloud(
            self._secrets,
            created,
            certificate=_certificate(options),
            clock=asyncio.get_running_loop().time,
            random=secrets.token_bytes,
            options=AlibabaCloudOptions(
                address=options.address,
                host=options.address,
                port=options.port,
                hosts=(*_names(options.address), ENDPOINT.replace("{region}", REGION)),
                rate=options.rate,
                rules=AlibabaRules(connects=500 if options.rate else 0),
                preregistration_free=True,
                models={PRODUCT: specification.parse(MODEL)},
                nodes={PRODUCT: AlibabaNodeType(options.node), GATEWAY[0]: AlibabaNodeType.GATEWAY},
                witness=options.witness,
            ),
        )
        if state is not None:
            self._cloud.go_on(state)
        self._open_api = OpenApi(
            self._cloud,
            authority=options.authority,
            credentials={self._keys["access_key"]: self._keys["secret_key"]},
            options=OpenApiOptions(REGION, limited=bool(options.rate)),
            wall=time.time,
            address=options.address,
        )
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._cloud)
        await self._stack.enter_async_context(self._open_api)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def set_faults(self, text: str, seed: int = 0) -> None:
        """Plan faults from now on.  Raises ConfigError."""
        self._cloud.set_faults(text, seed)

    def facts(self) -> Mapping[str, object]:
        """Return the facts that a client needs."""
        return {
            "host": self._cloud.host,
            "port": self._cloud.port,
            "open_api": self._open_api.port,
            "region": REGION,
            "product": PRODUCT,
        }

    def truth(self) -> Mapping[str, Any]:
        """Return the true state of the cloud now."""
        return self._cloud.truth()

    def kept(self) -> object:
        """Return what outlives a restart."""
        return self._secrets, self._keys, self._cloud.state()

    def ledger(self, child: str) -> Mapping[str, Any]:
        """Return the cloud's counts of a child.  Raises KeyError."""
        devices: Any = self._cloud.truth()["devices"]
        return dict(devices[self._product][child])

    def write(self, directory: Path) -> None:
        """Write the secrets of the products."""
        for name, product in (("product-secret", PRODUCT), ("gateway-secret", GATEWAY[0])):
            if product in self._secrets:
                _write_secret(directory / name, self._secrets[product])
        _write_secret(directory / "open-api.json", json.dumps(self._keys))

    async def _reset(self, request: Mapping[str, Any]) -> None:
        self._cloud.reset(self._product, request["child"])

    async def _delete(self, request: Mapping[str, Any]) -> None:
        self._cloud.delete(self._product, request["child"])

    async def _secret(self, request: Mapping[str, Any]) -> str:
        return self._cloud.show_secret(self._product, request["child"])

    async def _set_properties(self, request: Mapping[str, Any]) -> object:
        """Set properties, and wait for the child's answer.  Raises also TimeoutError."""
        values = request["values"]
        return await _answer(self._cloud.set_properties(self._product, request["child"], values))

    async def _invoke(self, request: Mapping[str, Any]) -> object:
        """Invoke a service, and wait for the child's answer.  Raises also TimeoutError."""
        child, service, values = request["child"], request["service"], request.get("values", {})
        return await _answer(self._cloud.invoke(self._product, child, service, values))

    async def _rrpc(self, request: Mapping[str, Any]) -> str:
        """Call a child by RRPC; return its answer, as text.  Raises also TimeoutError."""
        payload, rest = str(request["payload"]).encode(), request.get("topic", "")
        answer = await self._cloud.rrpc(self._product, request["child"], payload, rest=rest)
        return answer.decode(errors="replace")

    async def _publish(self, request: Mapping[str, Any]) -> None:
        """Publish a message to a child, on a topic that a user has defined."""
        payload = str(request["payload"]).encode()
        self._cloud.publish(self._product, request["child"], request["topic"], payload)

    async def _reports(self, request: Mapping[str, Any]) -> object:
        """Return the newest; or with "skip", all but so many of the first."""
        return self._cloud.reports(self._product, request["child"], request.get("skip"))

    async def _report(self, request: Mapping[str, Any]) -> str:
        """Have a child's reading arrive; return what of it does not fit, or ""."""
        faults = self._cloud.read(self._product, request["child"], READING)
        return "; ".join(f"{name}: {fault}" for name, fault in faults.items())

    async def _dynreg(self, request: Mapping[str, Any]) -> None:
        """Switch dynamic registration of a product on or off, as only the console can."""
        self._cloud.set_dynreg(request.get("product", self._product), on=bool(request["on"]))

    async def _use(self, request: Mapping[str, Any]) -> None:
        """Have the children be devices of a product that the account's owner has made."""
        self._product = request["product"]

    async def _model(self, request: Mapping[str, Any]) -> None:
        self._cloud.set_model(self._product, request["tsl"])


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


async def _answer(command: ThingCommand) -> object:
    """Return what a child answers.  Raises TimeoutError, which is an OSError."""
    async with asyncio.timeout(ANSWER):
        return await command.reply


def _names(address: str) -> list[str]:
    """Return the names of the cloud besides its endpoints."""
    return ["localhost"] if address == LOOPBACK else ["cloud.example"]


def _certificate(options: AccountOptions) -> pki.KeyedCertificate:
    """Issue a certificate for the address: not every machine can look up "localhost".

    It is for the endpoints of both regions: in each, a server would have its own.
    """
    if options.certificate != "good" and options.address == LOOPBACK:
        return CERTIFICATES[options.certificate](options.authority, options.now)
    endpoints = [ENDPOINT.format(product="*", region=one) for one in (REGION, OTHER_REGION)]
    names = [*_names(options.address), *endpoints]
    ends = options.now + pki.LIFE
    return options.authority.issue(names, [options.address], options.now - pki.LIFE, ends)
