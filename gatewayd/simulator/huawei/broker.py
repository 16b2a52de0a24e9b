"""The broker of a Huawei instance: the connections of devices, and the messages to them.

Sources: the vendor's page on topics (api-iothub/iot_06_v5_3004), and the README of its C SDK: a
device receives the platform's messages on system topics without a subscription, at QoS 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from gatewayd.simulator.huawei import topics
from gatewayd.simulator.huawei.options import HuaweiRules
from gatewayd.simulator.mqtt.codec import publish
from gatewayd.simulator.mqtt.delivery import ReplySender
from gatewayd.simulator.mqtt.link import MqttLink
from gatewayd.simulator.rate_window import RateWindow

_MAX_ID = 65_535


@dataclass(slots=True)
class HuaweiDeviceConnection:
    """The connection of one device."""

    device_id: str
    link: MqttLink
    rules: HuaweiRules
    sender: ReplySender = field(init=False)
    _messages: RateWindow = field(default_factory=RateWindow)
    _bytes: RateWindow = field(default_factory=RateWindow)
    _ids: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.sender = ReplySender(self.link, self.send, self.receives)

    def receives(self, topic: str) -> bool:
        """Whether the device receives the messages of a topic."""
        return bool(self._copies(topic))

    def admits(self, now: float, size: int) -> bool:
        """Whether the limits of a connection allow another message of the device.

        now: seconds of a steady clock.  size: bytes of the message.
        """
        rules = self.rules
        return self._messages.admits(now, rules.messages, rules.period) and self._bytes.admits(
            now, rules.bandwidth, rules.period, max(size, 1)
        )

    def send(self, topic: str, payload: bytes) -> bool:
        """Send the copies of a message; return whether there are any."""
        copies = self._copies(topic)
        for qos in copies:
            packet_id = next(self._ids) % _MAX_ID + 1
            self.link.send(publish(topic, payload, qos, packet_id))
        return bool(copies)

    def _copies(self, topic: str) -> list[int]:
        """Return the QoS of each copy that the device receives."""
        asked = [qos for one, qos in self.link.granted.items() if topics.matches(one, topic)]
        explicit = [max(asked)] if asked else []
        route = topics.route(topic)
        if self.rules.implicit and route and topics.downstream(route.use):
            return explicit + [0] * (self.rules.twice or not explicit)
        return explicit


class HuaweiBroker:
    """A broker that sends to devices, over the newest connection of each."""

    def __init__(self, rules: HuaweiRules) -> None:
        self._rules = rules
        self._connections: dict[str, HuaweiDeviceConnection] = {}

    def __contains__(self, device_id: object) -> bool:
        return device_id in self._connections

    def __iter__(self) -> Iterator[str]:
        return iter(self._connections)

    def connect(self, device_id: str, link: MqttLink) -> MqttLink | None:
        """Add a connection; return an older one of the same device."""
        older = self._connections.get(device_id)
        self._connections[device_id] = HuaweiDeviceConnection(device_id, link, self._rules)
        return older.link if older else None

    def disconnect(self, device_id: str, link: MqttLink) -> bool:
        """Remove a connection; return whether it was the newest."""
        connection = self._connections.get(device_id)
        if connection is None or connection.link is not link:
            return False
        del self._connections[device_id]
        return True

    def of(self, device_id: str) -> HuaweiDeviceConnection | None:
        """Return a device's connection."""
        return self._connections.get(device_id)

    def send(self, device_id: str, topic: str, payload: bytes) -> bool:
        """Send a message; return whether the device receives it."""
        connection = self._connections.get(device_id)
        return connection is not None and connection.send(topic, payload)
