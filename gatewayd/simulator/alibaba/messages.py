"""Messages of devices at the simulated Alibaba cloud: requests of gateways, reports, and replies.

Sources: the vendor's pages on sub-devices (see topics.py), "MQTT protocol" (help.aliyun.com/
document_detail/30540: a device uses its own topics only), and "Limits" (30527).  What a device may
not publish is discarded, and nothing is sent back: the page on the data model (163772) says so of
the limits.  A filter that is not its own gets 0x80 (aliyun/iotkit-embedded, issue 127).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
from gatewayd.simulator.alibaba.thing import reports
from gatewayd.simulator.alibaba.thing.commands import ThingCommand, ThingCommands
from gatewayd.simulator.alibaba.thing.reports import ThingReports
from gatewayd.simulator.alibaba.thing.rrpc import Rrpcs
from gatewayd.simulator.alibaba.thing.specification import ThingModel
from gatewayd.simulator.alibaba.topology import SimulatedTopology, TopologyRequests
from gatewayd.simulator.faults import FaultPlan, SimulatedFault
from gatewayd.simulator.mqtt.delivery import copies, receive
from gatewayd.simulator.mqtt.link import MqttLink
from gatewayd.simulator.mqtt.packets import Publish

_SECOND = 1.0


class AlibabaMessages:
    """The server of devices: of gateways with their sub-devices, and of those without any.

    topology, sessions, registration, reports, commands, rrpcs: its parts.
    notifier: pushes to gateways.
    clock: seconds.  now: milliseconds since the epoch.
    """

    def __init__(
        self,
        registry: AlibabaRegistry,
        plan: FaultPlan,
        rules: AlibabaRules,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._registry, self._plan, self._rules = registry, plan, rules
        self._broker, self._ledgers = AlibabaBroker(rules), AlibabaGatewayLedgers()
        self.topology, self.sessions = SimulatedTopology(), AlibabaSessions(self._broker)
        self.notifier = GatewayNotifier(
            self._broker, self.topology, self.sessions, rules, self._ledgers
        )
        evict = self.notifier.evict
        self.registration = DynamicRegistration(registry, self.topology, rules, evict=evict)
        attach = TopologyRequests(
            registry, self.topology, rules, evict=evict, offline=self.sessions.end
        )
        online = SessionRequests(registry, self.topology, self.sessions, rules, clock=clock)
        self.reports = ThingReports(self._model_of, self._represents, now, rules.kept)
        self.rrpcs = Rrpcs(self._push, self._is_extended)
        self.commands = ThingCommands(self._model_of, self._command, self.rrpcs.next_id)
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

    def connect(
        self, device: Name, link: MqttLink, *, served: bool, extended: bool, clean: bool
    ) -> bool:
        """Add a device's new connection: the sub-devices of a gateway must log in again.

        served: whether it is sent everything that is its own, subscribed to or not.
        extended: whether RRPCs come on topics of their own.
        clean: whether nothing of a session before counts.  Returns whether one goes on.
        """
        self._end(device)
        self._broker.connect(device, link, gateway=self.is_gateway(device), extended=extended)
        if served:
            self._broker.serve(device, device)
        return self._broker.last(device, device, clean=clean)

    def _end(self, device: Name) -> None:
        """End a device's session, and those of its sub-devices; what lasts is kept."""
        self.sessions.lose(device)
        self._broker.pause(device, device)

    def disconnect(self, device: Name) -> None:
        """Remove a device's connection, and with it the sessions of its sub-devices."""
        self._end(device)
        self._broker.disconnect(device)

    def forget(self, device: Name) -> None:
        """Remove a deleted device."""
        self.reports.forget(device)
        self.topology.forget(device)
        self._ledgers.forget(device)

    def subscribe(self, device: Name, filters: Sequence[str]) -> list[bool]:
        """Return whether each filter is granted."""
        granted = [
            at < self._rules.filters and self._subscribed(device, one)
            for at, one in enumerate(filters)
        ]
        self._registry.devices[device].ledger.refused_topics += granted.count(False)
        if self.is_gateway(device):
            self._ledgers.of(device).refused_topics += granted.count(False)
        return granted

    def unsubscribe(self, device: Name, filters: Sequence[str]) -> None:
        """Unsubscribe."""
        self._broker.unsubscribe(device, filters)

    def publish(self, device: Name, packet: Publish) -> None:
        """Handle a message on a device's connection: its own, or one of its sub-devices.

        Raises Unacknowledged.
        """
        route = topics.route(packet.topic)
        request = route is not None and route.method in self._answers
        among = frozenset[str]() if request else faults.OF_MESSAGES
        if fault := self._plan.choose("message", device[1], among):
            self._registry.strike(device, fault.name)
        receive(fault, lambda: self._publish(device, packet))

    def _publish(self, device: Name, packet: Publish) -> None:
        owner, route = topics.owner(packet.topic), topics.route(packet.topic)
        if route and route.method in topics.ACKNOWLEDGEMENTS and self.is_gateway(device):
            pushed = route.method.removesuffix("_reply")
            self._ledgers.of(device).acknowledged[pushed] += 1
        elif owner is None or owner not in self._registry.devices or not self._may(device, owner):
            self._registry.devices[device].ledger.discarded["foreign-topic"] += 1
            if self.is_gateway(device):
                self._ledgers.of(device).stray += 1
        elif owner != device and self.sessions.gateway_of(owner) != device:
            self.notifier.error(device, AlinkCode.NO_SESSION, owner)
        elif not (fault := self._excess(owner, packet)):
            self._accept(device, owner, packet)
        else:
            self._registry.devices[owner].ledger.discarded[fault] += 1

    def _may(self, device: Name, owner: Name) -> bool:
        """Whether a device may use the topics of another: a gateway those of its sub-devices."""
        return device == owner or self.is_gateway(device)

    def _excess(self, owner: Name, packet: Publish) -> str:
        """Return which limit a message is over; "" for none."""
        limit = self._rules.messages[packet.qos]
        window = self._registry.devices[owner].messages[packet.qos]
        if len(packet.payload) > self._rules.payload:
            return "size"
        return "" if window.admits(self._clock(), limit, _SECOND) else "rate"

    def _accept(self, device: Name, owner: Name, packet: Publish) -> None:
        """Handle a message that its owner may publish."""
        self._registry.devices[owner].ledger.published += 1
        if rrpc := topics.rrpc_answered(packet.topic):
            known = self.rrpcs.answered(owner, rrpc, packet.payload)
            if not known and not self.commands.answered(owner, rrpc, packet.payload):
                self._registry.devices[owner].ledger.discarded["late-answer"] += 1
        elif (route := topics.route(packet.topic)) is None:
            self.reports.pass_on(owner, topics.after_device(packet.topic), packet.payload)
        elif route.method == topics.RAW:
            self.reports.pass_on(owner, route.method, packet.payload)
        elif owner == device and route.method in self._answers and self.is_gateway(device):
            self._take(device, route.method, packet)
        elif reports.is_report(route.method):
            self._receive(device, owner, route.method, packet)
        elif not self.commands.answered(owner, route.method, packet.payload):
            self._registry.devices[owner].ledger.discarded["late-answer"] += 1

    def _receive(self, holder: Name, owner: Name, method: str, packet: Publish) -> None:
        """Receive a report, and reply to it."""
        try:
            call = alink.read(packet.payload)
        except UnreadableAlink:
            self._registry.devices[owner].ledger.discarded["unreadable"] += 1
            return
        fault = self._plan.choose(method, owner[1], faults.WHOLE, reports.named(call.params))
        if fault:
            self._registry.strike(owner, fault.name)
        if fault and fault.name == "lose-request":
            return
        code, data = self._answer_report(owner, method, call, fault)
        if call.answered:
            topic = topics.topic(owner, f"{method}_reply")
            delivery = answers.deliver(alink.reply(call.id, method, code, data), fault)
            self._broker.reply(holder, topic, delivery)

    def _answer_report(
        self, owner: Name, method: str, call: AlinkRequest, fault: SimulatedFault | None
    ) -> tuple[int, object]:
        """Return code and data."""
        if fault and fault.name == "reply":
            return int(fault.number), {}
        try:
            call.check(method)
            return AlinkCode.SUCCESS, self.reports.answer(owner, method, call)
        except AlinkFailure as failed:
            return failed.code, failed.data

    def _model_of(self, product: str) -> ThingModel:
        return self._registry.products[product].model

    def _represents(self, device: Name, other: Name) -> bool:
        return self.sessions.gateway_of(other) == device

    def receives(self, device: Name, topic: str) -> bool:
        """Whether a device is sent the messages of a topic, itself or through its gateway."""
        return self._broker.reaches(self._holder(device), topic)

    def send(self, device: Name, rest: str, payload: bytes, qos: int = 0) -> bool:
        """Send a message on a topic that a user has defined; return whether it is received.

        One of QoS 1 is kept for a device that is offline, where its session is not clean.
        """
        topic = topics.custom(device, rest)
        if self._push(device, topic, payload, qos):
            return True
        return qos > 0 and self._broker.keep(device, topic, payload)

    def _command(self, device: Name, command: ThingCommand, body: Mapping[str, object]) -> bool:
        topic = topics.topic(device, command.method)
        if command.rrpc:
            rest = command.method.replace(".", "/") if self._is_extended(device) else ""
            topic = topics.rrpc(device, command.rrpc, rest)
        return self._push(device, topic, answers.encode(body))

    def _push(self, device: Name, topic: str, payload: bytes, qos: int = 0) -> bool:
        """Send a command, unless a fault spoils it; return whether the device receives it."""
        if not self.receives(device, topic):
            return False
        if fault := self._plan.choose("command", device[1], faults.OF_COMMANDS):
            self._registry.strike(device, fault.name)
        for one in copies(fault, payload):
            self._broker.send(self._holder(device), topic, one, qos)
        return True

    def _is_extended(self, device: Name) -> bool:
        return self._broker.is_extended(self._holder(device))

    def _holder(self, device: Name) -> Name:
        return self.sessions.gateway_of(device) or device

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
            call.check(method)
            return AlinkCode.SUCCESS, self._answers[method](
                GatewayRequest(gateway, call.params, spoiled)
            )
        except AlinkFailure as failed:
            return failed.code, failed.data
