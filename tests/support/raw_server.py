"""A TLS server on a thread of its own, which does to one client what no good server does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

Attack: TypeAlias = Callable[[ssl.SSLSocket, threading.Event], None]
"""Plays to a client, blocking; ends when the client is gone, or soon after the event is set."""


class RawServer:
    """Serves one client on the loopback interface, while it is entered.  port: where."""

    def __init__(self, context: ssl.SSLContext, attack: Attack) -> None:
        self._context, self._attack = context, attack
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="attacker")
        self._client: socket.socket | None = None
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        self._stop.set()
        for sock in (self._listener, self._client):
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            self._client, _ = self._listener.accept()
            with self._context.wrap_socket(self._client, server_side=True) as sock:
                self._client = sock
                self._attack(sock, self._stop)
