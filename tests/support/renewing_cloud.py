"""A fake cloud whose secrets grow old, as certificates do, and which knows devices by them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gatewayd.cloud.provider import (
    Credential,
    Failed,
    Issued,
    KeepSecret,
    LoginRefused,
    Outcome,
    Refused,
    Unknown,
)
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from tests.support.fakes import FakeCloud, FakeSession

LIFE, BEFORE = 86_400.0, 43_200.0
"""Seconds that a secret is good for, and before its end at which it is due."""


@dataclass
class RenewingCloud(FakeCloud):
    """A cloud whose secrets expire.

    known: by which secrets it knows a device: the first login adds one, later ones only while
    it is `trusting`, as after an operator has made a new one known.

    holders: whose secret opened the session.  A later login ends the session before.
    """

    trusting: bool = True
    known: dict[CloudName, list[Secret]] = field(default_factory=dict)
    holders: dict[CloudName, Secret] = field(default_factory=dict)
    life: float = LIFE

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        self.calls.append(f"register {name.device}")
        await asyncio.sleep(0.1)
        word = self._next(name)
        if word == "refuse":
            return Refused(Reason("cloud-refused"))
        if word == "fail":
            return Failed(Reason("cloud-unreachable"))
        if word == "lose":
            return Unknown(Reason("answer-lost"))
        made, count = asyncio.get_running_loop().time(), len(self.issued.get(name, []))
        secret = Secret(f"{name.device} {count} {made + self.life}".encode())
        self.issued.setdefault(name, []).append(secret)
        await keep(secret)
        return Issued()

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        return self.end_of(secret) - BEFORE

    def end_of(self, secret: Secret) -> float:
        return float(secret.reveal().split()[-1])

    async def connect(self, name: CloudName, secret: Secret) -> FakeSession:
        self.calls.append(f"connect {name.device}")
        await asyncio.sleep(0.1)
        known = self.known.get(name, [])
        if self.end_of(secret) <= asyncio.get_running_loop().time():
            raise LoginRefused(Reason("certificate-expired"))
        if known and secret not in known and not self.trusting:
            raise LoginRefused(Reason("certificate-rejected"), stale=False)
        if secret not in known:
            self.known[name] = [*known, secret]
        if name in self.online:
            if self.holders[name] == secret:
                self.contested.append(name)
            self.drop(name.device)
        self.online[name], self.holders[name] = FakeSession(self, name), secret
        return self.online[name]

    def reset(self, name: CloudName) -> None:
        self.known.pop(name, None)
        if name in self.online:
            self.drop(name.device)


@dataclass
class HoldableCloud(RenewingCloud):
    """A cloud whose children may have holders."""

    @classmethod
    def hands_over(cls, route: str) -> bool:
        return route == ""

    async def credential(self, name: CloudName, secret: Secret) -> Credential:
        topics = {"prefix": f"/{name.device}/"}
        ends = self.end_of(secret)
        return Credential("h", 8883, name.device, "u", topics, password=secret, valid_until=ends)
