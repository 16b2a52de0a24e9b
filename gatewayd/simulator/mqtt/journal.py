"""A journal of a simulated cloud: what arrived when, from which address, as lines of JSON.

{"at": 1042.5, "do": "connect", "peer": "10.88.0.1", "link": 7, "user": "TH20-0001A7&a1SimProdKey",
"client": "…", "accepted": true}; "publish" with "topic"; "close".  `at` is CLOCK_MONOTONIC, which
all processes of a machine share.  No payload and no password is in it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from weakref import WeakKeyDictionary

from gatewayd.simulator.mqtt.link import MqttLink
from gatewayd.simulator.mqtt.packets import Connect, Publish


class CloudJournal:
    """A `MqttWitness` that writes a file, while the `with` lasts.

    path: appended to.  clock: seconds.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._file: int | None = None
        self._numbers: WeakKeyDictionary[MqttLink, int] = WeakKeyDictionary()
        self._next = 1

    def __enter__(self) -> None:
        """Open the file.  Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK  # the page cache takes it
        self._file = os.open(self._path, flags, 0o600)

    def __exit__(self, *_: object) -> None:
        assert self._file is not None, "entered before"
        os.close(self._file)
        self._file = None

    def connected(self, link: MqttLink, connect: Connect, *, accepted: bool) -> None:
        """Write the first packet of a connection, and whether it is accepted."""
        self._numbers[link], self._next = self._next, self._next + 1
        user, client = connect.username, connect.client_id
        self._write(link, "connect", user=user, client=client, accepted=accepted)

    def published(self, link: MqttLink, publish: Publish) -> None:
        """Write that a message arrived."""
        self._write(link, "publish", topic=publish.topic)

    def closed(self, link: MqttLink) -> None:
        """Write that a connection is closed."""
        self._write(link, "close")

    def _write(self, link: MqttLink, what: str, **facts: object) -> None:
        self.note(what, link.peer, self._numbers.get(link, 0), **facts)

    def note(self, what: str, peer: str, link: int, **facts: object) -> None:
        """Write that something happened now.

        what: "connect", "publish" or "close".  peer: the address of the client.
        link: the number of the connection.  facts: what the line has beside.
        """
        if self._file is None:  # connections that end with the cloud itself
            return
        line = {"at": self._clock(), "do": what, "peer": peer, "link": link, **facts}
        os.write(self._file, json.dumps(line).encode() + b"\n")
