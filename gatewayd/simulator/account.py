"""What a plant wants of a simulated cloud, whichever it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

from gatewayd.simulator import pki

LOOPBACK = "127.0.0.1"
CERTIFICATES: Mapping[str, Callable[[pki.RootAuthority, datetime], pki.KeyedCertificate]] = {
    "good": pki.localhost,
    "expired": pki.expired,
    "wrong-host": pki.wrong_host,
}


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """What an account is made by.

    serials: the children, by serial number, which is their name at the cloud too.
    node: what they are there: "direct", or "sub-device" of a gateway.
    address: IPv4 address to listen on; certificate: a key of CERTIFICATES.
    authority: vouches for the cloud's own certificate.  now: with a time zone.
    rate: connections that the cloud lets through in a minute for each device; 0 for no limit.
    """

    serials: tuple[str, ...]
    node: str
    address: str
    certificate: str
    authority: pki.RootAuthority
    now: datetime
    rate: int


CloudVerb: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[object]]
"""Does what only this kind of cloud can do; takes the request as control.py reads it."""


class CloudAccount(Protocol):
    """A simulated cloud, served while the `async with` lasts.  A child is named by its serial."""

    verbs: Mapping[str, CloudVerb]

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *_: object) -> None: ...
    def set_faults(self, text: str, seed: int = 0) -> None:
        """Plan faults from now on.  Raises ConfigError."""

    def facts(self) -> Mapping[str, object]:
        """Return what a client has to be told, as JSON can hold it."""

    def truth(self) -> Mapping[str, Any]:
        """Return what is true now at the cloud."""

    def ledger(self, child: str) -> Mapping[str, Any]:
        """Return what the cloud counted of a child.  Raises KeyError."""

    def write(self, directory: Path) -> None:
        """Write the files that a client needs, beside ca.pem.  Blocks."""
