"""The account of a simulated cloud: the interface between a plant and any of the clouds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

from gatewayd.simulator import pki
from gatewayd.simulator.mqtt.journal import CloudJournal
from gatewayd.simulator.mqtt.link import MqttWitness

LOOPBACK = "127.0.0.1"
CERTIFICATES: Mapping[str, Callable[[pki.RootAuthority, datetime], pki.KeyedCertificate]] = {
    "good": pki.localhost,
    "expired": pki.expired,
    "wrong-host": pki.wrong_host,
}


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """The options of an account.

    serials: the children, by serial number, which is also their name at the cloud.
    node: their node type: "direct", or "sub-device" of a gateway.
    address: IP address to listen on; certificate: a key of CERTIFICATES.
    authority: vouches for the cloud's own certificate.  now: with a time zone.
    rate: connections that the cloud lets through in a minute for each device; 0 for no limit.
    port: to listen on; 0 takes a free one.  kept: what an account returned before, to go on with.
    empty: whether it has neither products nor devices, until its owner makes them.
    witness: is shown what devices say over MQTT; a real broker has none.
    journal: is written by a real broker; the witness of a simulated one writes its own.
    """

    serials: tuple[str, ...]
    node: str
    address: str
    certificate: str
    authority: pki.RootAuthority
    now: datetime
    rate: int
    port: int = 0
    kept: Any = None
    empty: bool = False
    witness: MqttWitness | None = None
    journal: CloudJournal | None = None


CloudVerb: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[object]]
"""An operation of one kind of cloud only; takes the request as control.py reads it."""


class CloudAccount(Protocol):
    """An account of a simulated cloud, served while the `async with` lasts.

    verbs: the operations of this kind of cloud.  A child is named by its serial number.
    """

    verbs: Mapping[str, CloudVerb]

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *_: object) -> None: ...
    def set_faults(self, text: str, seed: int = 0) -> None:
        """Plan faults from now on.  Raises ConfigError."""

    def facts(self) -> Mapping[str, object]:
        """Return the facts that a client needs, for JSON."""

    def truth(self) -> Mapping[str, Any]:
        """Return the true state of the cloud now."""

    def ledger(self, child: str) -> Mapping[str, Any]:
        """Return the cloud's counts of a child.  Raises KeyError."""

    def kept(self) -> object:
        """Return what outlives a restart, to be pickled by plant.py; once it is served no more."""

    def write(self, directory: Path) -> None:
        """Write the files that a client needs, besides ca.pem.  Blocks."""
