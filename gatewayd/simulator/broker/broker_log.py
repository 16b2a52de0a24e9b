"""The log of a real mosquitto, read as what its clients do: who comes, what they say, who goes.

mosquitto 2.0 writes these lines, in the order in which it does things:

    New client connected from 127.0.0.1:50232 as sensor-TH20 (p2, c1, k60, u'sensor-TH20').
    Received PUBLISH from sensor-TH20 (d0, q1, r0, m1, 'a/b', ... (1 bytes))
    Client sensor-TH20 already connected, closing old connection.
    Client sensor-TH20 closed its connection.

A client that is refused has no name there.
"""

from __future__ import annotations

import asyncio
import re
from itertools import count
from pathlib import Path

from gatewayd.simulator.mqtt.journal import CloudJournal

LOOK = 0.05
"""Seconds between two looks at the log, where a journal is written."""
DETAILS = "log_type debug\nlog_type information\n"
"""What mosquitto is configured with, so that its log has what is said, too."""
_CAME = re.compile(r"New client connected from \S+?:([0-9]+) as (\S+) \(")
_SAID = re.compile(r"Received PUBLISH from (\S+) \(d[01], q[012], r[01], m[0-9]+, '([^']*)'")
_GONE = re.compile(r"(?:Client|Socket error on client|Bad socket read/write on client) ([^\s,:]+)")
_STAYS = "already connected"


class BrokerLog:
    """Reads the log of a broker, in pieces.

    path: the file.  journal: is written what is read; None for no journal.
    online, seen: the clients that are connected, and that have ever been.
    """

    def __init__(self, path: Path, journal: CloudJournal | None = None) -> None:
        self._path, self._journal = path, journal
        self._read = 0
        self._peers: dict[int, str] = {}
        self._links: dict[str, tuple[str, int]] = {}
        self._numbers = count(1)
        self.online: set[str] = set()
        self.seen: set[str] = set()

    def carried(self, port: int, peer: str) -> None:
        """Note whose a connection is, which the broker sees from a port of this host.

        peer: the address of the client.
        """
        self._peers[port] = peer

    def read_on(self) -> None:
        """Learn what has been written since it was read last.  Blocks."""
        with self._path.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            self._one(line)

    async def follow(self) -> None:
        """Read on until cancelled, so that the journal has the time of what happens."""
        while True:
            self.read_on()
            await asyncio.sleep(LOOK)

    def _one(self, line: str) -> None:
        if found := _SAID.search(line):
            self._note(found[1], "publish", topic=found[2])
        elif found := _CAME.search(line):
            self._came(int(found[1]), found[2])
        elif found := _GONE.search(line):
            self._note(found[1], "close")
            self._links.pop(found[1], None)
            if _STAYS not in line:
                self.online.discard(found[1])

    def _came(self, port: int, client: str) -> None:
        self.online.add(client)
        self.seen.add(client)
        if port in self._peers:  # else one of this host, which watches
            self._links[client] = self._peers[port], next(self._numbers)
            self._note(client, "connect", user=client, client=client, accepted=True)

    def _note(self, client: str, what: str, /, **facts: object) -> None:
        if self._journal is not None and client in self._links:
            peer, link = self._links[client]
            self._journal.note(what, peer, link, **facts)
