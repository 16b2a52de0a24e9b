"""The broker of devices: their connections, their subscriptions, and the messages to them.

Source: the vendor's pages "Limits" (help.aliyun.com/document_detail/30527) and the one on automatic
subscription.  A message without a subscriber is not sent; one of QoS 1 is kept for a device that is
offline, where its session is not clean ("IoT offline device cloud control command", which has the
flag of the CONNECT).  The vendor's SDKs set the option `_ss=1` in a client id, and then subscribe
to nothing of what they wait for: the cloud sends it all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from gatewayd.simulator.alibaba import topics
from gatewayd.simulator.alibaba.devices import Name
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.mqtt.codec import publish
from gatewayd.simulator.mqtt.delivery import Delivery, ReplySender
from gatewayd.simulator.mqtt.link import MqttLink

KEPT = 100
"""Messages that are kept for a device; further ones take the place of the oldest."""


@dataclass(slots=True)
class AlibabaConnection:
    """The connection of one device, with its subscriptions.

    topics: without wildcards.  patterns: with wildcards.
    served: the devices, itself and sub-devices, that are sent everything that is theirs.
    lasting: those of them whose sessions are not clean, so that their messages are kept.
    extended: whether RRPCs come on topics of their own.
    """

    link: MqttLink
    extended: bool
    topics: set[str] = field(default_factory=set)
    patterns: set[str] = field(default_factory=set)
    served: set[Name] = field(default_factory=set)
    lasting: set[Name] = field(default_factory=set)
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

    def send(self, topic: str, payload: bytes, qos: int = 0) -> bool:
        """Send a message; return whether the device has subscribed to it."""
        if received := self.receives(topic):
            self.link.send(publish(topic, payload, qos))
        return received

    def of(self, device: Name) -> tuple[set[str], set[str]]:
        """Return the subscriptions to what is a device's own: without wildcards, and with them."""
        own = (self.topics, self.patterns)
        plain, wild = ({one for one in some if topics.owner(one) == device} for some in own)
        return plain, wild


@dataclass(slots=True)
class KeptSession:
    """What is kept of a session that has ended: its subscriptions, and messages for it.

    everything: whether it was sent what it had not subscribed to, too.
    """

    topics: set[str]
    patterns: set[str]
    everything: bool
    messages: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def wants(self, topic: str) -> bool:
        """Whether a message is one of its subscriptions."""
        matching = (topics.matches(one, topic) for one in self.patterns)
        return self.everything or topic in self.topics or any(matching)


class AlibabaBroker:
    """A broker that sends to devices, over the newest connection of each."""

    def __init__(self, rules: AlibabaRules) -> None:
        self._rules = rules
        self._connections: dict[Name, AlibabaConnection] = {}
        self._kept: dict[Name, KeptSession] = {}

    def connect(self, device: Name, link: MqttLink, *, gateway: bool, extended: bool) -> None:
        """Add a connection; an older one of the same device is dropped."""
        automatic = {topics.topic(device, method) for method in topics.SUBSCRIBED}
        self._connections[device] = AlibabaConnection(
            link, extended, automatic if gateway and self._rules.subscribe else set()
        )

    def last(self, holder: Name, device: Name, *, clean: bool) -> bool:
        """Begin a device's session over a connection; return whether one of before goes on.

        What was kept for it is sent a moment later, unless the session is clean: then it is lost.
        """
        connection, kept = self._connections[holder], self._kept.pop(device, None)
        if clean:
            connection.lasting.discard(device)
            return False
        connection.lasting.add(device)
        if kept is None:
            return False
        connection.topics |= kept.topics
        connection.patterns |= kept.patterns
        loop = asyncio.get_running_loop()
        for topic, payload in kept.messages:  # after the answer to the login
            loop.call_soon(connection.send, topic, payload, 1)
        return True

    def pause(self, holder: Name, device: Name) -> None:
        """Keep the session of a device that goes offline, unless it is clean."""
        connection = self._connections.get(holder)
        if connection is not None and device in connection.lasting:
            connection.lasting.discard(device)
            everything = device in connection.served
            self._kept[device] = KeptSession(*connection.of(device), everything)

    def keep(self, device: Name, topic: str, payload: bytes) -> bool:
        """Keep a message for a device that is offline; return whether it has such a session."""
        kept = self._kept.get(device)
        if kept is None or not kept.wants(topic):
            return False
        kept.messages.append((topic, payload))
        return True

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

    def send(self, device: Name, topic: str, payload: bytes, qos: int = 0) -> bool:
        """Send a message; return whether the device has subscribed to it."""
        connection = self._connections.get(device)
        return connection is not None and connection.send(topic, payload, qos)

    def reply(self, device: Name, topic: str, delivery: Delivery) -> bool:
        """Send a reply as decided; return whether the device receives it, now or later."""
        return self._connections[device].sender.deliver(topic, delivery)
