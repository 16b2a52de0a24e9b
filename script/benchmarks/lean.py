"""python3 -m script.benchmarks.lean: the least that does a direct child's work, as a floor.

One asyncio loop, MQTT written by hand on non-blocking TLS sockets, and SQLite with as many durable
steps as the crash protocol of gatewayd needs, committed in groups by a thread: intent, secret,
pointer with activation, activated.  There is no bus, no log, no policy, no encryption and no
retry: each failure ends it.

Standard input holds the facts, as JSON: host, port, ca (a file), product, secret, directory,
at_once and devices.  What it took is printed, as JSON: see `Took` of threads.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import secrets
import socket
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from gatewayd.cloud.alibaba import payloads
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.mqtt import Login
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.runtime.sqlite import PRAGMAS
from script.benchmarks.process import memory
from script.benchmarks.threads import Took

T = TypeVar("T")

KEEPALIVE, PATIENCE = 300, 60.0  # seconds
CHUNK = 4096
CONNECT, CONNACK, PUBLISH, PUBACK = 0x10, 0x20, 0x30, b"\x40\x02"
DISCONNECT = b"\xe0\x00"
SETTINGS = AlibabaSettings()

CREATE = "CREATE TABLE child (name TEXT PRIMARY KEY, attempt, secret, stored, activated)"
INTENT = "INSERT INTO child (attempt, name) VALUES (?, ?)"
KEEP = "UPDATE child SET secret = ? WHERE name = ?"
POINT = "UPDATE child SET stored = ? WHERE name = ?"
ACTIVATED = "UPDATE child SET activated = ? WHERE name = ?"

Change = tuple[str, tuple[object, ...], asyncio.Future[None]]


class Store(threading.Thread):
    """SQLite on a thread: all changes that wait go in one transaction, with one sync."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path, self._loop = path, asyncio.get_running_loop()
        self._changes: queue.SimpleQueue[Change | None] = queue.SimpleQueue()

    async def change(self, sql: str, value: object, name: str) -> None:
        """Return when the change is durable."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._changes.put((sql, (value, name), done))
        await done

    def close(self) -> None:
        """End the thread."""
        self._changes.put(None)
        self.join()

    def run(self) -> None:
        """Commit in groups until closed."""
        database = sqlite3.connect(self._path, isolation_level=None)
        for pragma in PRAGMAS:
            database.execute(pragma)
        database.execute(CREATE)
        while (first := self._changes.get()) is not None:
            group = [first, *self._more()]
            database.execute("BEGIN")
            for sql, values, _ in group:
                database.execute(sql, values)
            database.execute("COMMIT")
            self._loop.call_soon_threadsafe(_resolve, [done for *_, done in group])
        database.close()

    def _more(self) -> Sequence[Change]:
        found: list[Change] = []
        while not self._changes.empty():
            if (change := self._changes.get()) is None:
                self._changes.put(None)
                break
            found.append(change)
        return found


def _resolve(waiting: Sequence[asyncio.Future[None]]) -> None:
    for done in waiting:
        done.set_result(None)


class Connection:
    """An MQTT connection: the packets that are needed, and no others."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls, self._loop = tls, asyncio.get_running_loop()
        self._raw = b""

    @classmethod
    async def open(cls, context: ssl.SSLContext, host: str, port: int, login: Login) -> Connection:
        """Connect, and log in.  Raises RuntimeError where that is refused."""
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setblocking(False)
        tls = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        connection = cls(tls)
        await connection._when_ready(tls.do_handshake)
        tls.send(_connect(login))
        kind, body = await connection.packet()
        if kind != CONNACK or body[1]:
            raise RuntimeError("the cloud refuses a CONNECT")
        return connection

    async def packet(self) -> tuple[int, bytes]:
        """Return the first byte of the next packet, and its body."""
        while (cut := _cut(self._raw)) is None:
            data = await self._when_ready(lambda: self._tls.recv(CHUNK))
            if not data:
                raise RuntimeError("the cloud has hung up")
            self._raw += data
        start, end = cut
        kind, body, self._raw = self._raw[0], self._raw[start:end], self._raw[end:]
        return kind, body

    async def message(self) -> tuple[str, bytes]:
        """Return the next message, acknowledged."""
        kind, body = await self.packet()
        if kind & 0xF0 != PUBLISH:
            raise RuntimeError("the cloud sends no message")
        size = 2 + int.from_bytes(body[:2], "big")
        topic, rest = body[2:size].decode(), body[size:]
        if kind & 0x06:
            self._tls.send(PUBACK + rest[:2])
            rest = rest[2:]
        return topic, rest

    def stay(self) -> None:
        """Serve the session: what comes is read, and dropped."""
        self._loop.add_reader(self._tls, self._drop)

    def leave(self) -> None:
        """Disconnect."""
        self._tls.send(DISCONNECT)
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._loop.remove_reader(self._tls)
        self._tls.close()

    def _drop(self) -> None:
        try:
            alive = bool(self._tls.recv(CHUNK))
        except ssl.SSLWantReadError:
            return
        if not alive:
            self.close()

    async def _when_ready(self, step: Callable[[], T]) -> T:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                ready: asyncio.Future[None] = self._loop.create_future()
                self._loop.add_reader(self._tls, ready.set_result, None)
                await ready
                self._loop.remove_reader(self._tls)


def _cut(raw: bytes) -> tuple[int, int] | None:
    """Return where the body of the first packet begins and ends; None if it is not whole."""
    length = shift = 0
    for at, byte in enumerate(raw[1:5], start=2):
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return (at, at + length) if len(raw) >= at + length else None
    return None


def _connect(login: Login) -> bytes:
    fields = (login.client_id.encode(), login.user_name.encode(), login.password.reveal())
    body = b"\x00\x04MQTT\x04\xc2" + KEEPALIVE.to_bytes(2, "big")
    body += b"".join(len(field).to_bytes(2, "big") + field for field in fields)
    low, high = len(body) & 0x7F, len(body) >> 7
    return bytes([CONNECT, low | 0x80, high] if high else [CONNECT, low]) + body


class Gateway:
    """The children of the facts, brought online."""

    def __init__(self, facts: dict[str, Any], store: Store) -> None:
        self._facts, self._store = facts, store
        self._key = Secret(facts["secret"].encode())
        self._context = ssl.create_default_context(cafile=facts["ca"])
        self._turns = asyncio.Semaphore(facts["at_once"])
        self._online: list[Connection] = []

    async def bring_online(self) -> int:
        """Return how many are online when all are."""
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for device in self._facts["devices"]:
                group.create_task(self._bring(device))
        return len(self._online)

    def close(self) -> None:
        """Let all leave."""
        for one in self._online:
            one.close()

    async def _bring(self, device: str) -> None:
        name = CloudName("alibaba", self._facts["product"], device)
        async with self._turns:
            await self._store.change(INTENT, 1, device)
            secret = await self._register(name)
            await self._store.change(KEEP, secret.reveal(), device)
            await self._store.change(POINT, 1, device)
            login = payloads.connect_login(name, secret, SETTINGS)
            session = await self._open(login)
            session.stay()
            await self._store.change(ACTIVATED, 1, device)
            self._online.append(session)

    async def _register(self, name: CloudName) -> Secret:
        login = payloads.register_login(name, self._key, SETTINGS, secrets.token_hex(8))
        connection = await self._open(login)
        secret = payloads.parse_push(*await connection.message(), name)
        connection.leave()
        if secret is None:
            raise RuntimeError("the cloud sends no secret")
        return secret

    async def _open(self, login: Login) -> Connection:
        facts = self._facts
        return await Connection.open(self._context, facts["host"], facts["port"], login)


async def measure(facts: dict[str, Any]) -> Took:
    """Bring all online at the same time.  Raises RuntimeError where one is not durable."""
    held = memory(os.getpid()).pss
    path = Path(facts["directory"]) / "lean.db"
    began, used = time.perf_counter(), time.process_time()
    store = Store(path)
    store.start()
    gateway = Gateway(facts, store)
    online = await gateway.bring_online()
    seconds, used = time.perf_counter() - began, time.process_time() - used
    kept = memory(os.getpid()).pss - held
    store.close()
    gateway.close()
    _check(path, online)
    return Took(used, seconds, kept, online)


def _check(path: Path, children: int) -> None:
    durable = "SELECT count(*) FROM child WHERE attempt AND secret <> '' AND stored AND activated"
    database = sqlite3.connect(path)
    ((found,),) = database.execute(durable)
    database.close()
    if found != children:
        raise RuntimeError(f"only {found} of {children} are durable")


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(measure(json.load(sys.stdin))))))
