"""The hub of one Huawei instance: devices connect, publish, subscribe and disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from gatewayd.simulator import faults
from gatewayd.simulator.faults import FaultPlan, SimulatedFault
from gatewayd.simulator.huawei import events, topics
from gatewayd.simulator.huawei.authentication import HuaweiAuthenticator, LoginDecision
from gatewayd.simulator.huawei.broker import HuaweiBroker, HuaweiDeviceConnection
from gatewayd.simulator.huawei.downlinks import Downlinks
from gatewayd.simulator.huawei.exchange.product_model import DiscardReason, Misfit
from gatewayd.simulator.huawei.gateways import HuaweiGateways
from gatewayd.simulator.huawei.ledger import HuaweiLedgers
from gatewayd.simulator.huawei.options import HuaweiCloudOptions
from gatewayd.simulator.huawei.platform.device import HuaweiDevice
from gatewayd.simulator.huawei.platform.ids import Ids
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.reasons import HuaweiConnectRefused, RefusalReason
from gatewayd.simulator.huawei.uplinks import REPORT, Uplinks
from gatewayd.simulator.huawei.x509 import CertificateInfo
from gatewayd.simulator.mqtt import connack
from gatewayd.simulator.mqtt.delivery import encode, receive
from gatewayd.simulator.mqtt.link import ConnectReply, MqttLink
from gatewayd.simulator.mqtt.packets import Connect, Publish
from gatewayd.simulator.rate_window import RateWindow


class Hub:
    """The server of one instance's links, which also watches the management interface."""

    def __init__(
        self, instance: IotdaInstance, plan: FaultPlan, options: HuaweiCloudOptions, ids: Ids
    ) -> None:
        self.instance, self._plan, self._options, self._ids = instance, plan, options, ids
        self.ledgers, self.broker = HuaweiLedgers(), HuaweiBroker(options.rules)
        self._gate = HuaweiAuthenticator(ids.clock)
        self.gateways = HuaweiGateways(
            instance, plan, options.rules, ids, self.broker, self.ledgers
        )
        self._downlinks = Downlinks(instance, plan, options.rules, self.broker, self.ledgers)
        self.gateways.appeared = self._downlinks.appeared
        self.uplinks = Uplinks(instance, options.rules, self.broker, self.ledgers, self._downlinks)
        self.gateways.said = self.uplinks.take_event
        self._connects = RateWindow()
        self._devices: dict[MqttLink, str] = {}
        for device in [*instance.devices.list()][::-1]:
            self.registered(device)
            self.added(device)
        instance.devices.watchers.append(self)
        instance.channel = self._downlinks

    def connect(
        self, link: MqttLink, connect: Connect, certificate: CertificateInfo | None
    ) -> ConnectReply:
        """Answer a CONNECT: by the rules, unless a fault strikes."""
        try:
            self._check_rate()
            decision = self._gate.decide(self.instance, connect, certificate)
            fault = self._choose(decision)
            if spoiled := connack.instead(fault):
                return spoiled
            device = self._gate.enter(self.instance, decision)
        except HuaweiConnectRefused as refused:
            return connack.refusal(self._refuse(refused))
        self._open(link, device, certificate if decision.authority else None)
        self.ledgers.of(device.device_id).lasting += not connect.clean
        if fault is None:  # else the CONNACK may come later, or never
            asyncio.get_running_loop().call_soon(self._downlinks.appeared, device)
        return connack.session(fault)

    def publish(self, link: MqttLink, packet: Publish) -> None:
        """Handle a message of a device.

        One on a topic that it may not use, or over the limits of its connection, is dropped, and
        acknowledged: the vendor says that it is discarded (productdesc-iothub/iot_04_0014).
        Raises Unacknowledged.
        """
        device, route = self._device(link), topics.route(packet.topic)
        connection = self.broker.of(device.device_id) if device else None
        if device is None or connection is None:
            return
        requesting = route is not None and route.use == "events/up"
        among = frozenset[str]() if requesting else faults.OF_MESSAGES
        if fault := self._plan.choose("message", device.device_id, among):
            self.ledgers.of(device.device_id).faults[fault.name] += 1
        receive(fault, partial(self._take, device, connection, route, packet))

    def _take(
        self,
        device: HuaweiDevice,
        connection: HuaweiDeviceConnection,
        route: topics.HuaweiTopic | None,
        packet: Publish,
    ) -> None:
        ledger, now = self.ledgers.of(device.device_id), asyncio.get_running_loop().time()
        if (size := len(packet.payload)) > self._options.rules.message_bytes:
            ledger.discard(Misfit(DiscardReason.TOO_LARGE, f"{size} bytes"))
        elif not connection.admits(now, size):
            ledger.throttled += 1
        elif topics.custom(packet.topic):
            if self._allowed(device, "publish", packet.topic):
                ledger.published["custom"] += 1
                self.uplinks.take_custom(device, packet.topic, packet.payload)
            else:
                ledger.refused_messages += 1
        elif route is None or route.device_id != device.device_id:
            ledger.stray += 1
        elif route.use == "events/up":
            ledger.published[route.use] += 1
            self.gateways.publish(device, packet.payload)
        elif kind := self.uplinks.publish(device, route.use, packet.payload):
            ledger.published[kind] += 1
        else:
            ledger.stray += 1

    def report(self, device_id: str, report: Mapping[str, object]) -> str:
        """Handle a device's report without a connection; return why it is discarded, or ""."""
        if (device := self.instance.devices.lookup(device_id)) is None:
            return "The device does not exist."
        ledger = self.ledgers.of(device_id)
        before = ledger.discards.total()
        if device.direct:
            self.uplinks.publish(device, REPORT, encode(report))
        else:
            batch = {"devices": [{"device_id": device_id, **report}]}
            gateway = self.instance.devices.gateway_of(device)
            self.uplinks.publish(gateway, topics.PROPERTIES, encode(batch))
        return ledger.last_discard if ledger.discards.total() > before else ""

    def subscribe(self, link: MqttLink, filters: Sequence[str]) -> list[bool]:
        """Return whether each filter is granted."""
        if (device := self._device(link)) is None:
            return [False] * len(filters)
        wanted, granted = set(link.granted), list[bool]()
        for one in filters:
            granted.append(self._subscribed(device, one, wanted))
            wanted |= {one} if granted[-1] else set()
        self.ledgers.of(device.device_id).refused_topics += granted.count(False)
        return granted

    def close(self, link: MqttLink) -> None:
        """Take a device offline, unless it is online over a newer connection.

        The status of a gateway's children does not change.
        """
        device_id = self._devices.pop(link, "")
        device = self.instance.devices.lookup(device_id)
        if self.broker.disconnect(device_id, link) and device:
            device.disconnect(self._ids.clock())

    def registered(self, device: HuaweiDevice) -> None:
        """Count a registration."""
        ledger = self.ledgers.of(device.device_id)
        ledger.registrations += 1
        ledger.self_registrations += device.self_registered

    def added(self, device: HuaweiDevice) -> None:
        """Notify a gateway of its new child."""
        self.gateways.added(device)

    def removed(self, device: HuaweiDevice) -> None:
        """Notify a gateway of a child that it loses."""
        self.gateways.removed(device)
        self.instance.arrivals.forget(device.device_id)

    def expelled(self, device: HuaweiDevice) -> None:
        """Close a device's connection."""
        if connection := self.broker.of(device.device_id):
            connection.link.close()

    def truth(self) -> dict[str, object]:
        """Return states and counts, for JSON; without secrets."""
        return {
            "devices": {one: self._truth(one) for one in self.ledgers},
            "gateways": {one: self._gateway_truth(one) for one in self.ledgers.gateways},
            "strangers": dict(self.ledgers.strangers),
        }

    def _truth(self, device_id: str) -> dict[str, object]:
        states: dict[str, object] = {"exists": False}
        if device := self.instance.devices.lookup(device_id):
            states = {
                "exists": True,
                "status": device.status,
                "online": device.status == "ONLINE",
                "connected": device_id in self.broker,
                "parent": None if device.direct else device.gateway_id,
                "fingerprint": device.auth.fingerprint,
            }
        return {**states, **self.ledgers.of(device_id).truth()}

    def _gateway_truth(self, device_id: str) -> dict[str, object]:
        descendants = self.instance.devices.descendants(device_id)
        connection = self.broker.of(device_id)
        return {
            "children": [one.device_id for one in descendants],
            "online": [one.device_id for one in descendants if one.status == "ONLINE"],
            "version": self.gateways.version(device_id),
            "subscriptions": sorted(connection.link.granted) if connection else [],
            **self.ledgers.gateways[device_id].truth(),
        }

    def _device(self, link: MqttLink) -> HuaweiDevice | None:
        return self.instance.devices.lookup(self._devices.get(link, ""))

    def _choose(self, decision: LoginDecision) -> SimulatedFault | None:
        stage = "register" if decision.newcomer else "login"
        fault = self._plan.choose(stage, decision.device_id, faults.AT_LOGIN)
        if fault:
            self.ledgers.of(decision.device_id).faults[fault.name] += 1
        return fault

    def _refuse(self, refused: HuaweiConnectRefused) -> int:
        """Count a refusal, and return its code."""
        code = self._options.codes[refused.reason]
        if ledger := self.ledgers.known(refused.device_id):
            ledger.refused[code] += 1
            ledger.reasons[refused.reason] += 1
        else:
            self.ledgers.strangers[refused.reason] += 1
        return code

    def _open(
        self, link: MqttLink, device: HuaweiDevice, certificate: CertificateInfo | None
    ) -> None:
        """Open a session; an older one of the same device is closed."""
        ledger = self.ledgers.of(device.device_id)
        ledger.logged_in(self._ids.clock(), certificate.sha256 if certificate else "")
        self._devices[link] = device.device_id
        if older := self.broker.connect(device.device_id, link):
            ledger.takeovers += 1
            older.close()

    def _subscribed(self, device: HuaweiDevice, one: str, wanted: set[str]) -> bool:
        if len(wanted | {one}) > topics.MAX_TOPICS:
            return False
        if topics.custom(one):
            count = sum(topics.custom(other) for other in wanted | {one})
            mine = not topics.catches_all(one) and self._allowed(device, "subscribe", one)
            return count <= topics.MAX_CUSTOM and mine
        route = topics.route(one)
        if route is None or route.device_id != device.device_id:
            return False
        if route.use == "events/down" and any(
            self._plan.choose(name, device.device_id, faults.SUBSCRIBING)
            for name in sorted(events.REQUESTS)
        ):
            return False
        return topics.downstream(route.use)

    def _allowed(self, device: HuaweiDevice, action: str, topic: str) -> bool:
        """Whether a device may use a custom topic: its product decides, or a policy does."""
        if topics.too_long(topic):
            return False
        if topics.of_product(topic):
            product = self.instance.products.get(device.product_id)
            return topics.defined(topic, device.device_id, product.topics)
        return self.instance.policies.allows(device, action, topic)

    def _check_rate(self) -> None:
        """Count a CONNECT.  Raises HuaweiConnectRefused for too many in a second."""
        now, rules = asyncio.get_running_loop().time(), self._options.rules
        if not self._connects.admits(now, rules.connects, rules.period):
            raise HuaweiConnectRefused(RefusalReason.TOO_MANY)
