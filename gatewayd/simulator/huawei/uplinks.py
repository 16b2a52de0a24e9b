"""What devices send of their own accord: properties, messages, responses, and shadow requests.

A message that does not fit is discarded, and the device learns nothing of it; the ledger has the
reason.  Sources: the vendor's pages on reporting properties (usermanual-iothub/iot_01_0326,
api-iothub/iot_06_v5_3010 and iot_06_v5_3006), on messages (iot_06_v5_3016) and on shadows
(iot_06_v5_3011).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import TypeAlias

from gatewayd.simulator.huawei import times, topics
from gatewayd.simulator.huawei.broker import HuaweiBroker
from gatewayd.simulator.huawei.downlinks import COMMANDS, GET, SET, Downlinks
from gatewayd.simulator.huawei.events import HuaweiEvent
from gatewayd.simulator.huawei.exchange.arrivals import Arrival, ArrivalKind
from gatewayd.simulator.huawei.exchange.product_model import DiscardReason, Misfit
from gatewayd.simulator.huawei.exchange.shadows import ServiceShadow, ShadowSection
from gatewayd.simulator.huawei.ledger import HuaweiLedgers
from gatewayd.simulator.huawei.options import HuaweiRules
from gatewayd.simulator.huawei.platform.device import HuaweiDevice
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.mqtt.delivery import encode

REPORT, MESSAGES = "properties/report", "messages/up"
_RESPONSES: Mapping[str, str] = {
    f"{use}/response/request_id=": f"{use}/response" for use in (COMMANDS, SET, GET)
}
_SHADOW = "shadow/get/request_id="
_COMPRESSED = "?encoding=gzip"
"""What a topic ends with whose messages are compressed; the vendor's SDK for C can do so."""
_GZIP = 16 + zlib.MAX_WBITS
_Json: TypeAlias = Mapping[str, object]


class Uplinks:
    """The receiver of what an instance's devices send."""

    def __init__(
        self,
        instance: IotdaInstance,
        rules: HuaweiRules,
        broker: HuaweiBroker,
        ledgers: HuaweiLedgers,
        downlinks: Downlinks,
    ) -> None:
        self._instance, self._rules, self._broker = instance, rules, broker
        self._ledgers, self._downlinks = ledgers, downlinks

    def take_event(self, device: HuaweiDevice, event: HuaweiEvent) -> None:
        """Keep an event of a product's own service: of a child, if the message names one."""
        if (about := self._subject(device, event.object_device_id)) is None:
            return
        model = self._instance.products.get(about.product_id).profile
        misfits = model.event(event.service_id, event.event_type, event.paras)
        for misfit in misfits:
            self._ledgers.of(about.device_id).discard(misfit)
        if not misfits:
            name = f"{event.service_id}.{event.event_type}"
            self._arrive(about, ArrivalKind.EVENT, name, event.paras, event.event_time)

    def take_custom(self, device: HuaweiDevice, topic: str, payload: bytes) -> None:
        """Keep a message on a topic that the platform does not define."""
        self._arrive(device, ArrivalKind.CUSTOM, topic, payload)

    def publish(self, device: HuaweiDevice, use: str, payload: bytes) -> str:
        """Handle a message on a system topic of a device; return its kind, "" for none.

        use: what follows sys/ in the topic.
        """
        if use.endswith(_COMPRESSED):
            use, payload = use.removesuffix(_COMPRESSED), self._unpack(payload)
        if use in (REPORT, topics.PROPERTIES):
            self._take_report(device, use, payload)
            return use
        if use == MESSAGES:
            self._keep(device, payload)
            return use
        if use.startswith(_SHADOW):
            self._show_shadow(device, use.removeprefix(_SHADOW), payload)
            return "shadow/get"
        for prefix, kind in _RESPONSES.items():
            if use.startswith(prefix):
                self._respond(device, use.removeprefix(prefix), payload)
                return kind
        return ""

    def _unpack(self, payload: bytes) -> bytes:
        """Return what a compressed message holds, cut behind the limit; nothing if it is none."""
        try:
            return zlib.decompressobj(_GZIP).decompress(payload, self._rules.message_bytes)
        except zlib.error:
            return b""

    def _take_report(self, device: HuaweiDevice, use: str, payload: bytes) -> None:
        """Read a report of properties: of the device itself, or of its children."""
        message = _read(payload)
        if len(payload) > self._rules.report_bytes:
            self._discard(device.device_id, DiscardReason.TOO_LARGE, f"{len(payload)} bytes")
        elif message is None:
            self._discard(device.device_id, DiscardReason.MALFORMED, use)
        elif use == REPORT:
            self._report(device, message)
        else:
            self._report_children(device, message.get("devices"))

    def _report_children(self, gateway: HuaweiDevice, listed: object) -> None:
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            self._discard(gateway.device_id, DiscardReason.MALFORMED, "devices")
            return
        if len(listed) > self._rules.properties:
            self._discard(gateway.device_id, DiscardReason.TOO_MANY, f"{len(listed)} children")
            return
        for one in listed:
            device_id = str(one.get("device_id"))
            if self._instance.devices.belongs(device_id, gateway.device_id):
                self._report(self._instance.devices.get(device_id), one)
            else:
                self._discard(gateway.device_id, DiscardReason.NOT_A_CHILD, device_id)

    def _report(self, device: HuaweiDevice, sent: _Json) -> None:
        """Record what fits of one device's properties, and discard the rest."""
        services = sent.get("services")
        if not isinstance(services, list) or not services:
            self._discard(device.device_id, DiscardReason.MALFORMED, "services")
            return
        if device.frozen:
            self._discard(device.device_id, DiscardReason.FROZEN, device.device_id)
            return
        self._ledgers.of(device.device_id).properties += 1
        for service in services:
            match service:
                case {"service_id": str(service_id), "properties": dict(properties), **rest}:
                    self._record(device, service_id, properties, rest.get("event_time"))
                case _:
                    self._discard(device.device_id, DiscardReason.MALFORMED, "services")
        self._downlinks.appeared(device)

    def _record(
        self, device: HuaweiDevice, service_id: str, properties: _Json, event_time: object
    ) -> None:
        model = self._instance.products.get(device.product_id).profile
        fit, rest = model.sort(service_id, properties)
        for misfit in rest:
            self._ledgers.of(device.device_id).discard(misfit)
        if fit:
            arrival = self._arrive(device, ArrivalKind.PROPERTIES, service_id, fit, event_time)
            self._instance.shadows.report(device.device_id, service_id, fit, arrival.when)

    def _keep(self, device: HuaweiDevice, payload: bytes) -> None:
        """Keep a message: of a child, if the envelope names one.  Any bytes are a message."""
        named = (_read(payload) or {}).get("object_device_id")
        if (about := self._subject(device, named)) is not None:
            self._arrive(about, ArrivalKind.MESSAGE, "", payload)
            self._downlinks.appeared(about)

    def _subject(self, device: HuaweiDevice, named: object) -> HuaweiDevice | None:
        """Return the device that a message is of; None, and discarded, if it is no child."""
        if not isinstance(named, str) or named in ("", device.device_id):
            return device
        if self._instance.devices.belongs(named, device.device_id):
            return self._instance.devices.get(named)
        self._discard(device.device_id, DiscardReason.NOT_A_CHILD, named)
        return None

    def _arrive(
        self,
        device: HuaweiDevice,
        kind: ArrivalKind,
        about: str,
        body: _Json | bytes,
        event_time: object = None,
    ) -> Arrival:
        """Keep what a device has said.

        A time that is missing, or malformed, is the platform's own (iot_06_v5_3010).
        """
        return self._instance.arrivals.add(device.device_id, kind, about, body, event_time)

    def _respond(self, device: HuaweiDevice, request_id: str, payload: bytes) -> None:
        body = _read(payload)
        if body is None:
            self._discard(device.device_id, DiscardReason.MALFORMED, "response")
        elif not self._downlinks.respond(device.device_id, request_id, body):
            self._ledgers.of(device.device_id).late_responses += 1

    def _show_shadow(self, device: HuaweiDevice, request_id: str, payload: bytes) -> None:
        """Answer a device that asks for its shadow, or for that of a child."""
        sent = _read(payload) or {}
        about = str(sent.get("object_device_id") or device.device_id)
        mine = about == device.device_id or self._instance.devices.belongs(about, device.device_id)
        if not mine:
            self._discard(device.device_id, DiscardReason.NOT_A_CHILD, about)
            return
        wanted = sent.get("service_id")
        shadow = [
            describe_shadow(service_id, one)
            for service_id, one in self._instance.shadows.of(about).items()
            if wanted in (None, "", service_id)
        ]
        topic = topics.system(device.device_id, f"shadow/get/response/request_id={request_id}")
        body = {"object_device_id": about, "shadow": shadow}
        self._broker.send(device.device_id, topic, encode(body))

    def _discard(self, device_id: str, reason: DiscardReason, what: str) -> None:
        self._ledgers.of(device_id).discard(Misfit(reason, what))


def describe_shadow(service_id: str, shadow: ServiceShadow) -> dict[str, object]:
    """Return one service of a shadow, as the platform writes it."""
    return {
        "service_id": service_id,
        "desired": _section(shadow.desired),
        "reported": _section(shadow.reported),
        "version": shadow.version,
    }


def _section(section: ShadowSection) -> dict[str, object]:
    when = None if section.changed is None else times.basic(section.changed)
    return {"properties": dict(section.properties), "event_time": when}


def _read(payload: bytes) -> dict[str, object] | None:
    """Return the JSON object of a message; None if it is none."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
