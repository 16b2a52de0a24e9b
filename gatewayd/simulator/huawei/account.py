"""An account of two instances of the simulated Huawei Cloud IoTDA, for a plant.

Children whose serial number is even belong to the instance "east", the others to "west".  Each
instance has a product for children, one for gateways, a gateway that has a secret, and a template
for devices with certificates, which waits for the device CA to be uploaded and verified.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from gatewayd.simulator.account import AccountOptions, CloudVerb
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.downlinks import COMMANDS, GET, SET
from gatewayd.simulator.huawei.exchange.device_messages import DeviceMessage
from gatewayd.simulator.huawei.management.server import Management
from gatewayd.simulator.huawei.options import HuaweiCloudOptions
from gatewayd.simulator.huawei.platform.device import AuthSlot, DeviceAuth, HuaweiDevice
from gatewayd.simulator.huawei.platform.errors import PlatformError
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.platform.platform import Platform

NAMES = ("east", "west")
PRODUCT, GATEWAYS = "6742bf260f2f9030e44210d8", "6742bf260f2f9030e44210d9"
"""Product IDs of the children and of the gateways, the same in both instances."""
GATEWAY = "gateway-1"
"""Node ID of the gateway."""
CLIMATE: Mapping[str, object] = {
    "service_id": "climate",
    "service_type": "climate",
    "properties": [
        {"property_name": "temperature", "data_type": "decimal", "method": "RE"},
        {"property_name": "humidity", "data_type": "int", "min": "0", "max": "100", "method": "RE"},
        {"property_name": "interval", "data_type": "int", "min": "1", "max": "3600"},
    ],
    "commands": [{"command_name": "identify", "paras": []}],
    "events": [
        {"event_type": "alarm", "paras": [{"para_name": "temperature", "data_type": "decimal"}]},
    ],
}
"""The model of the children's product: the one service that they have."""
_WORDS = ("version", "state", "store", "protection")
_COUNTS = (
    "children", "online", "offline", "pending", "joining", "rejected", "failed", "retired",
    "messages_waiting", "bytes_waiting", "waiting_seconds", "messages_dropped", "certificate_days",
)  # fmt: skip
GATEWAY_MODEL: Mapping[str, object] = {
    "service_id": "gateway",
    "service_type": "gateway",
    "properties": [
        *({"property_name": name, "data_type": "string", "method": "R"} for name in _WORDS),
        *({"property_name": name, "data_type": "int", "method": "R"} for name in _COUNTS),
    ],
}
"""The model of the gateways' product: what gatewayd reports of itself."""
READING: Mapping[str, object] = {
    "services": [
        {"service_id": "climate", "properties": {"temperature": 21.5, "humidity": 40}},
    ]
}
"""What a child reports."""
_NODE, _PRODUCT = "iotda::certificate::common_name", "iotda::certificate::organizational_unit"
_TEXT = {"type": "String"}
_PARAMETERS = {_NODE: _TEXT, _PRODUCT: _TEXT}
TEMPLATE: Mapping[str, object] = {
    "parameters": _PARAMETERS,
    "resources": {
        "device": {
            "device_name": {"ref": _NODE},
            "node_id": {"ref": _NODE},
            "product_id": {"ref": _PRODUCT},
        }
    },
}
"""The template of children and gateways: the certificate names the product."""


class SimulatedHuaweiAccount:
    """An account of the simulated Huawei cloud.  Implements CloudAccount.

    Its files: template.json, management.json with the keys of the REST interface, and
    NAME-gateway-secret of each instance.
    """

    def __init__(self, options: AccountOptions) -> None:
        keys = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}
        self._secrets: dict[str, str]
        self._keys: dict[str, str]
        new = options.kept or (*_new_platform(empty=options.empty), keys)
        platform, self._secrets, self._keys = new
        self._product, self._only = PRODUCT, ""
        self._platform: Platform = platform
        self._instances = {name: platform.instances[name] for name in NAMES}
        self._cloud = HuaweiCloud(
            platform,
            authority=options.authority,
            options=HuaweiCloudOptions(
                address=options.address, port=options.port, witness=options.witness
            ),
        )
        self._management = Management(
            platform,
            authority=options.authority,
            credentials={self._keys["access_key"]: self._keys["secret_key"]},
            address=options.address,
        )
        self._stack = contextlib.AsyncExitStack()
        self.verbs: Mapping[str, CloudVerb] = {
            "upload": self._upload,
            "verify": self._verify,
            "provision": self._provision,
            "demand": self._demand,
            "reset": self._reset,
            "delete": self._delete,
            "model": self._model,
            "report": self._report,
            "command": self._command,
            "set": self._set,
            "get": self._get,
            "send": self._send,
            "shadow": self._shadow,
            "received": self._received,
            "arrivals": self._arrivals,
            "use": self._use,
        }

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._cloud)
        await self._stack.enter_async_context(self._management)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def set_faults(self, text: str, seed: int = 0) -> None:
        """Plan faults from now on.  Raises ConfigError."""
        self._cloud.set_faults(text, seed)

    def facts(self) -> Mapping[str, object]:
        """Return the facts that a client needs."""
        return {
            "port": self._cloud.port,
            "management": self._management.port,
            "product": PRODUCT,
            "gateways": GATEWAYS,
            "gateway": GATEWAY,
            "hosts": {name: one.domain for name, one in self._instances.items()},
        }

    def truth(self) -> Mapping[str, Any]:
        """Return the true state of the cloud now."""
        return self._cloud.truth()

    def kept(self) -> object:
        """Return what outlives a restart."""
        return self._platform, self._secrets, self._keys

    def ledger(self, child: str) -> Mapping[str, Any]:
        """Return the cloud's counts of a child.  Raises KeyError."""
        name, _ = self._home(child)
        devices = self.truth()["instances"][name]["devices"]
        return dict(devices.get(self._device_id(child), {}))

    def write(self, directory: Path) -> None:
        """Write the template, the keys and the gateways' secrets."""
        if self._secrets:  # else its owner makes one
            (directory / "template.json").write_text(json.dumps(TEMPLATE))
        _write_secret(directory / "management.json", json.dumps(self._keys))
        for name, secret in self._secrets.items():
            _write_secret(directory / f"{name}-gateway-secret", secret)

    def _home(self, child: str) -> tuple[str, IotdaInstance]:
        name = self._only or home(child)
        return name, self._instances[name]

    def _device_id(self, child: str) -> str:
        return f"{self._product}_{child}"

    async def _use(self, request: Mapping[str, Any]) -> None:
        """Have the children be devices of a product that the owner of an instance has made."""
        self._only, self._product = request["instance"], request["product"]

    async def _upload(self, request: Mapping[str, Any]) -> str:
        """Upload a device CA; return its verification code.

        apart: upload it into another resource space than that of the products.
        """
        instance = self._instances[request["instance"]]
        apart = request.get("apart", False)
        app_id = instance.apps.create("apart").app_id if apart else None
        return instance.authorities.upload(request["pem"], app_id).verify_code

    async def _verify(self, request: Mapping[str, Any]) -> None:
        """Verify the newest CA by its certificate, and switch its self-registration on."""
        instance = self._instances[request["instance"]]
        newest = instance.authorities.list()[0]
        instance.authorities.verify(newest.certificate_id, request["pem"])
        known = instance.templates.list("gatewayd")
        template = known[0] if known else instance.templates.create("gatewayd", TEMPLATE)
        instance.authorities.update(
            newest.certificate_id, {"template_id": template.template_id, "provision_enable": True}
        )

    async def _provision(self, request: Mapping[str, Any]) -> None:
        """Switch self-registration on or off."""
        authorities = self._instances[request["instance"]].authorities
        newest = authorities.list()[0]
        authorities.update(newest.certificate_id, {"provision_enable": request["on"]})

    async def _demand(self, request: Mapping[str, Any]) -> None:
        """Require one more parameter in the template, unknown to the gateway."""
        templates = self._instances[request["instance"]].templates
        parameters = {**_PARAMETERS, f"iotda::certificate::{request['parameter']}": _TEXT}
        body = {**TEMPLATE, "parameters": parameters}
        (template,) = templates.list("gatewayd")
        templates.update(template.template_id, {"template_body": body})

    async def _reset(self, request: Mapping[str, Any]) -> None:
        """Set a device's fingerprint, or empty it, so that the next certificate is learnt."""
        _, instance = self._home(request["child"])
        slot = AuthSlot(request.get("slot", "PRIMARY"))
        instance.devices.reset_fingerprint(
            self._device_id(request["child"]), request.get("fingerprint"), slot=slot
        )

    async def _model(self, request: Mapping[str, Any]) -> None:
        """Give the children's product another model, in every instance."""
        for instance in self._instances.values():
            changes = {"service_capabilities": request["services"]}
            instance.products.update(self._product, changes)

    async def _report(self, request: Mapping[str, Any]) -> str:
        """Report a reading in a child's place; return why the platform discards it, or ""."""
        name, _ = self._home(request["child"])
        return self._cloud.report(name, self._device_id(request["child"]), READING)

    async def _command(self, request: Mapping[str, Any]) -> object:
        """Send a command to a child; return its response.  Raises ValueError."""
        sent = {"service_id": request["service"], "command_name": request["name"]}
        return await self._ask(request, COMMANDS, {**sent, "paras": request.get("paras", {})})

    async def _set(self, request: Mapping[str, Any]) -> object:
        """Set properties of a child; return its response.  Raises ValueError."""
        one = {"service_id": request["service"], "properties": request["properties"]}
        return await self._ask(request, SET, {"services": [one]})

    async def _get(self, request: Mapping[str, Any]) -> object:
        """Read properties of a child; return its response.  Raises ValueError."""
        return await self._ask(request, GET, {"service_id": request["service"]})

    async def _ask(
        self, request: Mapping[str, Any], use: str, body: Mapping[str, object]
    ) -> object:
        instance, device = self._device(request)
        assert instance.channel is not None, "the cloud serves it"
        try:
            return await instance.channel.ask(device, use, body)
        except PlatformError as error:
            raise ValueError(str(error)) from error

    async def _send(self, request: Mapping[str, Any]) -> str:
        """Send a child a message, which waits if it is offline; return its id."""
        instance, device = self._device(request)
        assert instance.channel is not None, "the cloud serves it"
        now = instance.ids.clock()
        message = DeviceMessage(instance.ids.code(), request["message"], now)
        instance.messages.add(device.device_id, message)
        instance.channel.deliver(device, message)
        return message.message_id

    async def _shadow(self, request: Mapping[str, Any]) -> object:
        """Return what a child has reported, by service."""
        instance, device = self._device(request)
        shadow = instance.shadows.of(device.device_id)
        return {name: service.reported.properties for name, service in shadow.items()}

    async def _received(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the newest messages of a child; what is no UTF-8 is replaced."""
        instance, device = self._device(request)
        found = self._cloud.received(instance.instance_id, device.device_id)
        return [one.decode(errors="replace") for one in found]

    async def _arrivals(self, request: Mapping[str, Any]) -> Sequence[object]:
        """Return all that a child has said, or the gateway of an instance, as it arrived.

        "skip" in the request: how many of the first to leave out, which were returned before.
        """
        if name := request.get("instance"):
            arrivals = self._instances[name].arrivals.of(f"{GATEWAYS}_{GATEWAY}")
        else:
            instance, device = self._device(request)
            arrivals = instance.arrivals.of(device.device_id)
        return [one.truth() for one in arrivals[request.get("skip", 0) :]]

    def _device(self, request: Mapping[str, Any]) -> tuple[IotdaInstance, HuaweiDevice]:
        """Return a child's device, and its instance.  Raises KeyError."""
        _, instance = self._home(request["child"])
        if device := instance.devices.lookup(self._device_id(request["child"])):
            return instance, device
        raise KeyError(request["child"])

    async def _delete(self, request: Mapping[str, Any]) -> None:
        _, instance = self._home(request["child"])
        instance.devices.delete(self._device_id(request["child"]))


def home(child: str) -> str:
    """Return the name of the instance that a child belongs to."""
    return NAMES[int(child[-1], 16) % len(NAMES)]


def device_id(child: str) -> str:
    """Return the device ID of a child."""
    return f"{PRODUCT}_{child}"


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _new_platform(*, empty: bool) -> tuple[Platform, dict[str, str]]:
    """Create a platform; return it with the secret of each instance's gateway.

    empty: without products and gateways.
    """
    platform = Platform(clock=time.time, random=secrets.token_bytes)
    instances = {name: platform.create(name) for name in NAMES}
    return platform, {} if empty else {name: _set_up(one) for name, one in instances.items()}


def _set_up(instance: IotdaInstance) -> str:
    """Create products and the gateway; return the gateway's secret."""
    for product, services in ((PRODUCT, [CLIMATE]), (GATEWAYS, [GATEWAY_MODEL])):
        instance.products.create(
            name=product,
            device_type="sensor",
            product_id=product,
            service_capabilities=services,
        )
    secret = secrets.token_hex(16)
    instance.devices.add(node_id=GATEWAY, product_id=GATEWAYS, auth=DeviceAuth(secret=secret))
    return secret
