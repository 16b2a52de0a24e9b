"""The broker of gateways: their connections, their subscriptions, and the messages to them.

Source: the vendor's pages "Limits" (help.aliyun.com/document_detail/30527) and the one on automatic
subscription.  A message without a subscriber is not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gatewayd.simulator.alibaba import topics
from gatewayd.simulator.alibaba.devices import Name
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.mqtt.codec import publish
from gatewayd.simulator.mqtt.delivery import Delivery, ReplySender
from gatewayd.simulator.mqtt.link import MqttLink


@dataclass(slots=True)
class AlibabaGatewayConnection:
    """The connection of one gateway, with its subscriptions."""

    link: MqttLink
    topics: set[str] = field(default_factory=set)
    sender: ReplySender = field(init=False)

    def __post_init__(self) -> None:
        self.sender = ReplySender(self.link, self.send, self.topics.__contains__)

    def send(self, topic: str, payload: bytes) -> bool:
        """Send a message; return whether the gateway has subscribed to it."""
        if topic in self.topics:
            self.link.send(publish(topic, payload))
        return topic in self.topics


class AlibabaBroker:
    """A broker that sends to gateways, over the newest connection of each."""

    def __init__(self, rules: AlibabaRules) -> None:
        self._rules = rules
        self._connections: dict[Name, AlibabaGatewayConnection] = {}

    def connect(self, gateway: Name, link: MqttLink) -> None:
        """Add a connection; an older one of the same gateway is dropped."""
        automatic = {topics.topic(gateway, method) for method in topics.SUBSCRIBED}
        self._connections[gateway] = AlibabaGatewayConnection(
            link, automatic if self._rules.subscribe else set()
        )

    def disconnect(self, gateway: Name) -> None:
        """Remove a connection."""
        self._connections.pop(gateway, None)

    def subscriptions(self, gateway: Name) -> list[str]:
        """Return the topics of a gateway's subscriptions, automatic ones included."""
        connection = self._connections.get(gateway)
        return sorted(connection.topics) if connection else []

    def subscribe(self, gateway: Name, topic: str) -> bool:
        """Subscribe, if the limit allows.  Automatic subscriptions are not counted."""
        wanted = self._connections[gateway].topics
        automatic = len(topics.SUBSCRIBED) if self._rules.subscribe else 0
        if topic not in wanted and len(wanted) - automatic >= self._rules.subscriptions:
            return False
        wanted.add(topic)
        return True

    def unsubscribe(self, gateway: Name, names: Sequence[str]) -> None:
        """Unsubscribe."""
        self._connections[gateway].topics.difference_update(names)

    def send(self, gateway: Name, topic: str, payload: bytes) -> bool:
        """Send a message; return whether the gateway has subscribed to it."""
        connection = self._connections.get(gateway)
        return connection is not None and connection.send(topic, payload)

    def reply(self, gateway: Name, topic: str, delivery: Delivery) -> bool:
        """Send a reply as decided; return whether the gateway receives it, now or later."""
        return self._connections[gateway].sender.deliver(topic, delivery)
