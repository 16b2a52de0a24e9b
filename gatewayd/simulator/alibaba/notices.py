"""Pushes of the simulated Alibaba cloud to gateways.

Sources: the vendor's pages "Manage topological relationships" (help.aliyun.com/document_detail/
89299), "Disable and delete sub-devices" (89303), and its error codes for sub-devices.
"""

from __future__ import annotations

from enum import IntEnum

from gatewayd.simulator.alibaba import alink, answers, topics
from gatewayd.simulator.alibaba.alink import AlinkCode
from gatewayd.simulator.alibaba.broker import AlibabaBroker
from gatewayd.simulator.alibaba.devices import Name
from gatewayd.simulator.alibaba.ledger import AlibabaGatewayLedgers
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.alibaba.sessions import AlibabaSessions
from gatewayd.simulator.alibaba.topology import SimulatedTopology


class ChildStatus(IntEnum):
    """The change of a sub-device that thing/topo/change reports."""

    CREATED = 0
    DELETED = 1
    ENABLED = 2  # one page swaps this and the next; its own sample does not
    DISABLED = 8


class GatewayNotifier:
    """A sender of pushes to gateways.  A push without a subscriber is counted, and lost."""

    def __init__(
        self,
        broker: AlibabaBroker,
        topology: SimulatedTopology,
        sessions: AlibabaSessions,
        rules: AlibabaRules,
        ledgers: AlibabaGatewayLedgers,
    ) -> None:
        self._broker, self._topology, self._sessions = broker, topology, sessions
        self._rules, self._ledgers = rules, ledgers
        self._pushes = alink.FIRST_PUSH

    def push(self, gateway: Name, method: str, params: object, *, to: Name | None = None) -> None:
        """Push a request to a gateway, on its own topic or on that of an online sub-device."""
        self._pushes += 1
        body = alink.push(str(self._pushes), method, params)
        reachable = to is None or self._sessions.gateway_of(to) == gateway
        topic = topics.topic(to or gateway, method)
        sent = reachable and self._broker.send(gateway, topic, answers.encode(body))
        self.count(gateway, method, sent=sent)

    def error(self, gateway: Name, code: int, child: Name) -> None:
        """Push an error of a sub-device to its gateway; the message may not even name it."""
        self._pushes += 1
        body: dict[str, object] = {"id": str(self._pushes), "code": code}
        body["message"] = alink.message(code)
        if self._rules.error_data:
            body["data"] = alink.named(child)
        payload = answers.encode(body)
        sent = self._broker.send(gateway, topics.error_topic(gateway), payload)
        self.count(gateway, f"error.{code}", sent=sent)

    def force_off(self, child: Name, code: int) -> None:
        """End a sub-device's session, and push the reason to its gateway."""
        if gateway := self._sessions.gateway_of(child):
            self._sessions.end(child)
            self.error(gateway, code, child)

    def change(self, child: Name, status: ChildStatus) -> None:
        """Push the change of an attached device to its gateway."""
        if gateway := self._topology.gateway_of(child):
            params = {"status": int(status), "subList": [alink.named(child)]}
            self.push(gateway, topics.TOPO_CHANGE, params)

    def evict(self, child: Name) -> None:
        """Detach a sub-device from its gateway, and push that to the gateway."""
        self.force_off(child, AlinkCode.NO_TOPOLOGY)
        self.change(child, ChildStatus.DELETED)
        self._topology.detach(child)

    def count(self, gateway: Name, method: str, *, sent: bool) -> None:
        """Count a message, sent or not."""
        ledger = self._ledgers.of(gateway)
        (ledger.pushed if sent else ledger.undelivered)[method] += 1
