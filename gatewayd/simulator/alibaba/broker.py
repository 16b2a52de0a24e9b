"""The broker of devices: their connections, their subscriptions, and the messages to them.

Source: the vendor's pages "Limits" (help.aliyun.com/document_detail/30527) and the one on automatic
subscription.  A message without a subscriber is not sent.  The vendor's SDKs set the option `_ss=1`
in a client id, and then subscribe to nothing of what they wait for: the cloud sends it all.
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
class AlibabaConnection:
    """The connection of one device, with its subscriptions.

    topics: without wildcards.  patterns: with wildcards.
    served: the devices, itself and sub-devices, that are sent everything that is theirs.
    extended: whether RRPCs come on topics of their own.
    """

    link: MqttLink
    extended: bool
    topics: set[str] = field(default_factory=set)
    patterns: set[str] = field(default_factory=set)
    served: set[Name] = field(default_factory=set)
    sender: ReplySender = field(init=False)

    def __post_init__(self) -> None:
        self.sender = ReplySender(self.link, self.send, self.receives)

    def receives(self, topic: str) -> bool:
        """Whether the device has subscribed to a topic, or need not."""
        return (
            topic in self.topics
            or any(topics.matches(one, topic) for one in self.patterns)
            or topics.owner(topic) in self.served
        )

    def send(self, topic: str, payload: bytes) -> bool:
        """Send a message; return whether the device has subscribed to it."""
        if received := self.receives(topic):
            self.link.send(publish(topic, payload))
        return received


class AlibabaBroker:
    """A broker that sends to devices, over the newest connection of each."""

    def __init__(self, rules: AlibabaRules) -> None:
        self._rules = rules
        self._connections: dict[Name, AlibabaConnection] = {}

    def connect(self, device: Name, link: MqttLink, *, gateway: bool, extended: bool) -> None:
        """Add a connection; an older one of the same device is dropped."""
        automatic = {topics.topic(device, method) for method in topics.SUBSCRIBED}
        self._connections[device] = AlibabaConnection(
            link, extended, automatic if gateway and self._rules.subscribe else set()
        )

    def serve(self, holder: Name, device: Name) -> None:
        """Send a device everything that is its own from now on, over the holder's connection."""
        self._connections[holder].served.add(device)

    def is_extended(self, device: Name) -> bool:
        """Whether RRPCs come on topics of their own over a device's connection."""
        connection = self._connections.get(device)
        return connection is not None and connection.extended

    def reaches(self, holder: Name, topic: str) -> bool:
        """Whether a message would be sent."""
        connection = self._connections.get(holder)
        return connection is not None and connection.receives(topic)

    def disconnect(self, device: Name) -> None:
        """Remove a connection."""
        self._connections.pop(device, None)

    def subscriptions(self, device: Name) -> list[str]:
        """Return the topics of a device's subscriptions, automatic ones included."""
        connection = self._connections.get(device)
        return sorted(connection.topics | connection.patterns) if connection else []

    def subscribe(self, device: Name, topic: str) -> bool:
        """Subscribe, if the limit allows.  Automatic subscriptions are not counted."""
        one = self._connections[device]
        wanted = one.patterns if "+" in topic or "#" in topic else one.topics
        automatic = {topics.topic(device, method) for method in topics.SUBSCRIBED}
        chosen = len(one.topics - automatic) + len(one.patterns)
        if topic not in {*wanted, *automatic} and chosen >= self._rules.subscriptions:
            return False
        wanted.add(topic)
        return True

    def unsubscribe(self, device: Name, names: Sequence[str]) -> None:
        """Unsubscribe."""
        connection = self._connections[device]
        connection.topics.difference_update(names)
        connection.patterns.difference_update(names)

    def send(self, device: Name, topic: str, payload: bytes) -> bool:
        """Send a message; return whether the device has subscribed to it."""
        connection = self._connections.get(device)
        return connection is not None and connection.send(topic, payload)

    def reply(self, device: Name, topic: str, delivery: Delivery) -> bool:
        """Send a reply as decided; return whether the device receives it, now or later."""
        return self._connections[device].sender.deliver(topic, delivery)
