"""Servers on the MQTT server's sockets: one whose owner decides who may subscribe to what."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from gatewayd.testing.simulator import mqtt_codec
from gatewayd.testing.simulator.mqtt_link import Link, Service
from gatewayd.testing.simulator.mqtt_packets import Packet, Subscribe, Unsubscribe
from gatewayd.testing.simulator.mqtt_server import MqttServer

REFUSED = 0x80
"""What SUBACK says of a filter that is not granted (MQTT 3.1.1, 3.9.3)."""


class Desk(Protocol):
    """Who decides."""

    def on_subscribe(self, link: Link, filters: Sequence[str]) -> list[bool]:
        """Return whether each filter is granted."""

    def on_unsubscribe(self, link: Link, filters: Sequence[str]) -> None:
        """Take subscriptions back."""


class DeskLink(Link):
    """A link that asks before it grants a subscription."""

    def __init__(self, service: Service, sock: socket.socket, desk: Desk) -> None:
        self._desk = desk
        super().__init__(service, sock)

    def _serve(self, packet: Packet) -> None:
        if isinstance(packet, Subscribe):
            granted = self._desk.on_subscribe(self, [name for name, _ in packet.filters])
            codes = [
                min(qos, 1) if one else REFUSED
                for one, (_, qos) in zip(granted, packet.filters, strict=True)
            ]
            self.send(mqtt_codec.suback(packet.packet_id, codes))
            return
        if isinstance(packet, Unsubscribe):
            self._desk.on_unsubscribe(self, packet.filters)
        super()._serve(packet)


class LinkServer(MqttServer):
    """Makes each connection what it is told to."""

    def __init__(self, service: Service, make: Callable[[Service, socket.socket], Link]) -> None:
        super().__init__(service)
        self._make = make

    def _welcome(self, sock: socket.socket) -> None:
        links, counts = self.service.links, self.service.counts
        if len(links) >= self.service.limits.connections:
            super()._welcome(sock)  # which drops it
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else answers wait for ACKs
        self._make(self.service, sock)
        counts["connections"] += 1
        counts["peak"] = max(counts["peak"], len(links))
