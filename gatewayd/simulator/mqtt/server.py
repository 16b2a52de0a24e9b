"""An MQTT 3.1.1 server on the asyncio loop, which makes an `MqttLink` of each connection."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from gatewayd.simulator.mqtt.link import MqttLink, MqttService

log = logging.getLogger(__name__)

_BACKLOG, _ACCEPTS, _PAUSE = 4_096, 64, 0.1


class MqttServer:
    """A server on one address, which drops new clients over `service.limits.connections`.

    Everything but its construction needs the running loop.

    make: makes the link of a connection, which adds itself to `service.links`.
    """

    def __init__(
        self,
        service: MqttService,
        make: Callable[[MqttService, socket.socket], MqttLink] = MqttLink,
    ) -> None:
        self.service = service
        self._make = make
        self._listener: socket.socket | None = None
        self._resting: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port bound; 0 before `start`."""
        return int(self._listener.getsockname()[1]) if self._listener else 0

    def start(self, address: str, port: int = 0) -> None:
        """Bind an IP address, and listen; port 0 takes a free one.  Raises OSError."""
        self._listener = _bound(address, port)
        self.resume()

    def pause(self) -> None:
        """Drop every client, and refuse new ones; keep the port."""
        if self._listener is None:
            return
        address, port = self._listener.getsockname()[:2]
        self.stop()
        self._listener = _bound(address, port)

    def resume(self) -> None:
        """Accept clients, also after `pause`.  Before `start`, does nothing."""
        if self._listener is None:
            return
        self._listener.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def stop(self) -> None:
        """Close the listener and every connection.  Stopping twice is fine."""
        if self._resting:
            self._resting.cancel()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for link in tuple(self.service.links):
            link.abort()

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(_ACCEPTS):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._pause_accepting(error)
                return
            self._add(sock)

    def _pause_accepting(self, error: OSError) -> None:
        """Stop listening for a moment: without free files, accepting again would spin."""
        log.warning("The simulator cannot accept a connection: %s.", error.strerror)
        loop = asyncio.get_running_loop()
        assert self._listener is not None
        loop.remove_reader(self._listener)
        self._resting = loop.call_later(_PAUSE, self.resume)

    def _add(self, sock: socket.socket) -> None:
        links, counts = self.service.links, self.service.counts
        if len(links) >= self.service.limits.connections:
            counts["full"] += 1
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else answers wait for ACKs
        self._make(self.service, sock)
        counts["connections"] += 1
        counts["peak"] = max(counts["peak"], len(links))


def _bound(address: str, port: int) -> socket.socket:
    """Return a socket that binds the port without listening: the kernel refuses clients."""
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError:
        listener.close()
        raise
    return listener
