"""Datagrams to a Unix socket, as systemd and its journal read them.  Nothing waits for it."""

from __future__ import annotations

import contextlib
import socket
from types import TracebackType


class DatagramSocket(contextlib.AbstractContextManager["DatagramSocket"]):
    """What sends to one address.

    address: a path, or "@" and a name in the abstract namespace: unix(7).  "" drops all.
    """

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send without waiting.  Raises OSError: BlockingIOError where the socket is not read."""
        if self._address:
            self._socket.sendto(data, self._address)

    def close(self) -> None:
        """Close it."""
        self._socket.close()
