"""Gateways of the simulated Alibaba cloud: their requests, and the replies.

Source: the vendor's pages on sub-devices (see topics.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gatewayd.simulator import faults
from gatewayd.simulator.alibaba import alink, answers, topics
from gatewayd.simulator.alibaba.alink import (
    AlinkCode,
    AlinkFailure,
    AlinkRequest,
    GatewayRequest,
    UnreadableAlink,
)
from gatewayd.simulator.alibaba.broker import AlibabaBroker
from gatewayd.simulator.alibaba.devices import AlibabaNodeType, Name
from gatewayd.simulator.alibaba.dynamic_registration import DynamicRegistration
from gatewayd.simulator.alibaba.ledger import AlibabaGatewayLedgers
from gatewayd.simulator.alibaba.notices import GatewayNotifier
from gatewayd.simulator.alibaba.registry import AlibabaRegistry
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.alibaba.sessions import AlibabaSessions, SessionRequests
from gatewayd.simulator.alibaba.topology import SimulatedTopology, TopologyRequests
from gatewayd.simulator.faults import FaultPlan, SimulatedFault
from gatewayd.simulator.mqtt.link import MqttLink
from gatewayd.simulator.mqtt.packets import Publish


class AlibabaGateways:
    """The server of gateways.

    topology, sessions, registration: its parts.  notifier: pushes to gateways.
    connected: whether a device has a direct connection.  clock: seconds.
    """

    def __init__(
        self,
        registry: AlibabaRegistry,
        plan: FaultPlan,
        rules: AlibabaRules,
        *,
        connected: Callable[[Name], bool],
        clock: Callable[[], float],
    ) -> None:
        self.topology, self.sessions = SimulatedTopology(), AlibabaSessions()
        self._registry, self._plan, self._rules = registry, plan, rules
        self._broker, self._ledgers = AlibabaBroker(rules), AlibabaGatewayLedgers()
        self.notifier = GatewayNotifier(
            self._broker, self.topology, self.sessions, rules, self._ledgers
        )
        evict = self.notifier.evict
        self.registration = DynamicRegistration(registry, self.topology, rules, evict=evict)
        attach = TopologyRequests(
            registry, self.topology, rules, evict=evict, offline=self.sessions.end
        )
        online = SessionRequests(
            registry, self.topology, self.sessions, rules, connected=connected, clock=clock
        )
        self._answers: dict[str, Callable[[GatewayRequest], object]] = {
            topics.REGISTER: self.registration.register,
            topics.PRODUCT_REGISTER: self.registration.product_register,
            topics.TOPO_ADD: attach.add,
            topics.TOPO_DELETE: attach.delete,
            topics.TOPO_GET: attach.get,
            topics.LIST_FOUND: attach.found,
            topics.LOGIN: online.login,
            topics.BATCH_LOGIN: online.batch_login,
            topics.LOGOUT: online.logout,
            topics.BATCH_LOGOUT: online.batch_logout,
        }

    def is_gateway(self, device: Name) -> bool:
        """Whether a device is a gateway, by the node type of its product."""
        product = self._registry.products.get(device[0])
        return product is not None and product.node is AlibabaNodeType.GATEWAY

    def connect(self, gateway: Name, link: MqttLink) -> None:
        """Add a gateway's new connection: its sub-devices must log in again."""
        self.sessions.lose(gateway)
        self._broker.connect(gateway, link)

    def disconnect(self, gateway: Name) -> None:
        """Remove a gateway's connection, and with it the sessions of its sub-devices."""
        self.sessions.lose(gateway)
        self._broker.disconnect(gateway)

    def forget(self, gateway: Name) -> None:
        """Remove a deleted gateway."""
        self.topology.forget(gateway)
        self._ledgers.forget(gateway)

    def subscribe(self, gateway: Name, filters: Sequence[str]) -> list[bool]:
        """Return whether each filter is granted."""
        granted = [
            at < self._rules.filters and self._subscribed(gateway, one)
            for at, one in enumerate(filters)
        ]
        self._ledgers.of(gateway).refused_topics += granted.count(False)
        return granted

    def unsubscribe(self, gateway: Name, filters: Sequence[str]) -> None:
        """Unsubscribe."""
        self._broker.unsubscribe(gateway, filters)

    def publish(self, gateway: Name, packet: Publish) -> None:
        """Handle a message of a gateway."""
        route = topics.route(packet.topic)
        if route and route.method in topics.ACKNOWLEDGEMENTS:
            pushed = route.method.removesuffix("_reply")
            self._ledgers.of(gateway).acknowledged[pushed] += 1
        elif route and route.owner == gateway and route.method in self._answers:
            self._take(gateway, route.method, packet)
        else:
            self._relay(gateway, packet.topic)

    def truth(self, gateway: Name) -> dict[str, object]:
        """Return state and counts, for JSON."""
        return {
            "children": [list(child) for child in self.topology.children(gateway)],
            "online": [list(child) for child in self.sessions.children(gateway)],
            "found": [list(device) for device in self.topology.found(gateway)],
            "subscriptions": self._broker.subscriptions(gateway),
            **self._ledgers.of(gateway).truth(),
        }

    def _choose(
        self, gateway: Name, method: str, among: frozenset[str], about: Sequence[str] = ()
    ) -> SimulatedFault | None:
        fault = self._plan.choose(method, gateway[1], among, about)
        if fault:
            self._ledgers.of(gateway).faults[fault.name] += 1
        return fault

    def _subscribed(self, gateway: Name, topic: str) -> bool:
        owner, route = topics.owner(topic), topics.route(topic)
        if owner is None or (owner != gateway and self.sessions.gateway_of(owner) != gateway):
            return False
        method = route.method.removesuffix("_reply") if route else ""
        if method in topics.REQUESTS and self._choose(gateway, method, faults.SUBSCRIBING):
            return False
        return self._broker.subscribe(gateway, topic)

    def _relay(self, gateway: Name, topic: str) -> None:
        """Handle a message of a sub-device, or on a topic without a request."""
        owner = topics.owner(topic)
        if owner == gateway:
            return
        if owner is None or owner not in self._registry.devices:
            self._ledgers.of(gateway).stray += 1
        elif self.sessions.gateway_of(owner) == gateway:
            self._registry.devices[owner].ledger.published += 1
        else:
            self.notifier.error(gateway, AlinkCode.NO_SESSION, owner)

    def _take(self, gateway: Name, method: str, packet: Publish) -> None:
        """Answer a request, unless a fault strikes."""
        try:
            call = alink.read(packet.payload)
        except UnreadableAlink:
            self._ledgers.of(gateway).unreadable += 1
            return
        fault = self._choose(gateway, method, faults.WHOLE, alink.mentioned(call.params))
        if fault and fault.name == "lose-request":
            return
        code, data = self._answer(gateway, method, call, packet.qos, fault)
        self._ledgers.of(gateway).calls[method][code] += 1
        if call.answered:
            body = alink.reply(call.id, method, code, data)
            topic = topics.topic(gateway, f"{method}_reply")
            sent = self._broker.reply(gateway, topic, answers.deliver(body, fault))
            self.notifier.count(gateway, f"{method}_reply", sent=sent)

    def _answer(
        self, gateway: Name, method: str, call: AlinkRequest, qos: int, fault: SimulatedFault | None
    ) -> tuple[int, object]:
        """Return code and data.  Requests about sessions must have QoS 0."""
        if fault and fault.name == "reply":
            return int(fault.number), {}
        if qos and method.startswith("combine."):
            return AlinkCode.BAD_PARAMETER, {}

        def spoiled(child: Name) -> int | None:
            partial = self._plan.choose(method, child[1], faults.PARTIAL)
            return int(partial.number) if partial else None

        try:
            return AlinkCode.SUCCESS, self._answers[method](
                GatewayRequest(gateway, call.params, spoiled)
            )
        except AlinkFailure as failed:
            return failed.code, failed.data
