"""A cloud's answers for holders, without a cloud, and clients as systemd is one."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from gatewayd.cloud.provider import Credential
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret
from gatewayd.errors import WrongState


def a_record(name: str, *, product: str = "p", rule: str = "meters", stored: int = 1) -> Record:
    """Return the record of a child that has been handed over."""
    return Record(
        device=DeviceId(f"child-{product}-{name.lower()}"), claims=frozenset(), label="",
        verdict=Verdict.ADMITTED, admission=Admission.RULE, rule=rule, reason="",
        cloud=CloudName("cloud", product, name), verdict_at=1, first_seen=1,
        attempt=stored, stored=stored, activating=stored, activated_at=1,
    )  # fmt: skip


class Held:
    """The credentials of the children in `held`: a `HeldCredentials`."""

    def __init__(self, *held: DeviceId) -> None:
        self.held = set(held)
        self.ca = ""

    def is_held(self, device: DeviceId) -> bool:
        return device in self.held

    async def credential(self, device: DeviceId) -> Credential:
        if device not in self.held:
            raise WrongState("not handed over")
        return Credential(
            "cloud.example", 8883, f"id-of-{device}", "user", {"prefix": "/p/"},
            ca=self.ca, password=Secret(f"password of {device}".encode()), valid_until=7.5,
        )  # fmt: skip


def listener(path: Path) -> socket.socket:
    """Return a socket that listens, which every user may connect to."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    path.chmod(0o666)
    made.listen(2048)
    return made


def client(path: Path, name: str = "") -> socket.socket:
    """Return a socket that has connected, as systemd does for a unit's credential.

    name: of the address, after the random part, as "unit/mqtt.service/child.json"; "" for none.
    """
    made = socket.socket(socket.AF_UNIX)
    if name:
        made.bind(f"\0{id(made):x}/{name}")
    made.connect(str(path))
    made.shutdown(socket.SHUT_WR)
    return made


async def answer(connection: socket.socket) -> bytes:
    """Return what a client gets, to the end."""

    def read() -> bytes:
        with connection:
            connection.settimeout(60)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    return await asyncio.to_thread(read)
