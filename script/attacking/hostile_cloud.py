"""A cloud that gives each child a secret, and then attacks its session; or a dead name server.

python -m script.attacking.hostile_cloud KIND ADDRESS DIRECTORY writes ca.pem into the directory,
prints the port, and "attacking" once a client is under attack.  It ends after LONGEST.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from gatewayd.cloud.alibaba.payloads import REGISTER_TOPIC
from gatewayd.simulator import pki
from gatewayd.simulator.mqtt.codec import Parser, connack, publish
from gatewayd.simulator.mqtt.packets import Connect

NAMES = "names"
"""The kind that answers no look-up of a name; all others are KINDS."""
LONGEST = 300.0
"""Seconds after which it ends by itself."""
CLIENTS = 64
ENOUGH = 256 << 20
"""Bytes that one client is sent, at most."""
SECRET = "0123456789abcdef" * 2
_CHUNK = 16384
_SLOWLY = 0.2
"""Seconds between two bytes of a packet that does not end."""

PacketStream = Iterator[bytes]


def unread() -> PacketStream:
    """Yield messages that want an answer."""
    return itertools.repeat(publish("/a", b"x", qos=1) * (_CHUNK // 8))


def messages() -> PacketStream:
    """Yield messages that want none, as large as one may be."""
    return itertools.repeat(publish("/a", b"x" * (200 << 10)))


def pings() -> PacketStream:
    """Yield what only a client may send."""
    return itertools.repeat(b"\xc0\x00" * (_CHUNK // 2))


def endless() -> PacketStream:
    """Yield a packet of 200 KB whose end never comes."""
    yield b"\x30\x80\x80\x0d" + b"\x00\x02/a" + bytes(190 << 10)
    while True:
        time.sleep(_SLOWLY)
        yield b"\0"


def oversize() -> PacketStream:
    """Yield a packet that says it has 256 MB."""
    yield b"\x30\xff\xff\xff\x7f"
    yield from itertools.repeat(bytes(_CHUNK))


def silence() -> PacketStream:
    """Yield nothing more, for ever."""
    threading.Event().wait()
    yield b""


KINDS: Mapping[str, Callable[[], PacketStream]] = {
    "unread": unread,
    "messages": messages,
    "pings": pings,
    "endless": endless,
    "oversize": oversize,
    "silence": silence,
}
"""What a session is sent, by the name of the attack.  Nothing of a session is ever read."""


def main(kind: str, address: str, directory: Path) -> None:
    """Attack whoever connects."""
    threading.Timer(LONGEST, sys.exit).start()
    if kind == NAMES:
        answer_no_name(address)
        return
    now = datetime.now(UTC)
    authority = pki.make_ca("a hostile cloud", now - pki.LIFE, now + pki.LIFE)
    (directory / "ca.pem").write_text(authority.pem)
    context = pki.localhost(authority, now).server_context()
    with socket.create_server((address, 0), backlog=CLIENTS) as listener:
        print(listener.getsockname()[1], flush=True)
        turns = threading.Semaphore(CLIENTS)
        while True:
            client, _ = listener.accept()
            turns.acquire()
            threading.Thread(target=_play, args=(kind, client, context, turns), daemon=True).start()


def answer_no_name(address: str) -> None:
    """Receive look-ups, and answer none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        print(53, flush=True)
        server.recv(512)
        print("attacking", flush=True)
        while True:
            server.recv(512)


def _play(
    kind: str, client: socket.socket, context: ssl.SSLContext, turns: threading.Semaphore
) -> None:
    """Play to one client until it is gone, then give the turn back."""
    try:
        with (
            client,
            contextlib.suppress(OSError),
            context.wrap_socket(client, server_side=True) as session,
        ):
            if not _accept(session):
                _attack(kind, session)
    finally:
        turns.release()


def _attack(kind: str, session: ssl.SSLSocket) -> None:
    """Attack one session.  Raises OSError when it is gone."""
    # One write: print would write the end of the line by itself, after another session's word.
    sys.stdout.write("attacking\n")
    sys.stdout.flush()
    sent = 0
    for packets in KINDS[kind]():
        if sent > ENOUGH:
            return
        session.sendall(packets)
        sent += len(packets)


def _accept(client: ssl.SSLSocket) -> bool:
    """Accept a client; return whether it has come for a secret, which it then has."""
    parser = Parser()
    connect = None
    while connect is None:
        data = client.recv(4096)
        if not data:
            raise OSError("the client has gone")
        connect = next((one for one in parser.feed(data) if isinstance(one, Connect)), None)
    client.sendall(connack(0))
    if "authType=register" not in connect.client_id:
        return False
    device, _, product = connect.username.partition("&")
    issued = {"productKey": product, "deviceName": device, "deviceSecret": SECRET}
    client.sendall(publish(REGISTER_TOPIC, json.dumps(issued).encode()))
    with contextlib.suppress(OSError):
        client.recv(4096)  # it leaves once the secret is on its disk
    return True


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
