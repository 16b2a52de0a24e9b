"""The discoverer of every protocol of datagrams: one unit for each interface.

What a protocol says is pure; here it is sent, read within bounds, and reported.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import ClassVar

from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.link.units import LinkUnits
from gatewayd.discovery.probing.interface import MAX_PROBES, MakeToken, ProbedInterface
from gatewayd.discovery.probing.protocol import (
    BROADCAST,
    SUSPECT,
    TOKEN,
    Datagram,
    DatagramProtocol,
    Own,
    Probe,
    Transmission,
)
from gatewayd.discovery.probing.settings import ProbingSettings
from gatewayd.discovery.probing.table import FoundPlace
from gatewayd.errors import ConfigError

GAP = 1.0
"""Seconds between the beginnings of two rounds, at least."""

_ANY = (Own("0.0.0.0", 0), Own("::", 0))  # noqa: S104  # in place of an address that is not known


class DatagramDiscoverer:
    """The discoverer.  That of a protocol is a subclass with a constructor `(name, settings)`.

    gap: seconds between the beginnings of two rounds of questions, at least, rescans included.
    token: makes so many bytes that cannot be guessed.  Raises ConfigError.
    """

    Settings: ClassVar[type] = ProbingSettings

    def __init__(
        self,
        name: str,
        settings: ProbingSettings,
        protocol: DatagramProtocol,
        *,
        gap: float = GAP,
        token: MakeToken = secrets.token_bytes,
    ) -> None:
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        self.name = name
        self.health = Health()
        self._settings, self._protocol = settings, protocol
        self._gap, self._token = gap, token
        self._units: LinkUnits[ProbedInterface] = LinkUnits(name, settings.interfaces)

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is sent on each interface that has an address of the family.

        Where it has several networks of IPv4, it is sent from each.
        """
        return [
            one for name in dict.fromkeys(self._settings.interfaces) for one in self._sent(name)
        ]

    def _sent(self, interface: str) -> Iterator[Transmission]:
        protocol, every = self._protocol, self._settings.probe_every
        for own in _ANY if not protocol.ipv4_only else _ANY[:1]:
            for probe in islice(protocol.probes(bytes(TOKEN), own), MAX_PROBES):
                yield Transmission(whom(probe), interface, every, len(probe.payload), probe.purpose)
        yield Transmission(
            f"the device, mostly at port {protocol.port} by UDP",
            interface,
            0.0,
            0,
            "whether it is still there",
            SUSPECT,
        )

    async def run(self, context: Context, sink: Sink) -> None:
        """Ask and listen on every interface that has an address.

        Raises DiscoveryRetry if none has.
        """
        await self._units.run(partial(self._unit, context, sink))

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask one device, in at most 3 s; None if no answer with its key comes from where it is.

        Raises DiscoveryRetry if it cannot be asked now.
        """
        unit = self._units.on(sighting.interface)
        return await unit.verify(sighting) if unit else None

    async def rescan(self) -> None:
        """Ask for all devices."""
        for unit in self._units:
            unit.rescan()

    def confirm(
        self, sighting: Sighting, payload: bytes, *, port: int = 0, asked: Sequence[bytes] = ()
    ) -> Sighting | None:
        """Return a fresh sighting, if an answer that came otherwise than by UDP is the device's.

        sighting: of the device that was asked, at its first address.  payload: its answer, as a
        datagram of the protocol.  asked: the tokens of the question.
        """
        unit = self._units.on(sighting.interface)
        if unit is None or not sighting.addresses:
            return None
        sender = sighting.addresses[0]
        shown = unit.read(Datagram(payload, sender, port, asked=asked))
        same = next((one for one in shown if one.key == sighting.key), None)
        return unit.confirm(same, sender) if same else None

    def _unit(
        self, context: Context, sink: Sink, interface: str, link: Callable[[], LanInterface]
    ) -> ProbedInterface:
        return ProbedInterface(
            FoundPlace(self._protocol.kind, self.name, interface),
            self._settings,
            self._protocol,
            gap=self._gap,
            token=self._token,
            link=link,
            context=context,
            sink=sink,
            health=self.health,
        )


def whom(probe: Probe) -> str:
    """Return to whom a probe is, in words."""
    to = "all hosts, by broadcast," if probe.to == BROADCAST else probe.to
    return f"{to} port {probe.port} by UDP"
