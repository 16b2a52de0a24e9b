"""An attacker on the same segment: everything it sends is seeded, counted and paced."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_network
from itertools import islice
from types import TracebackType
from typing import Self

from gatewayd.simulator.lan import child as devices
from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import SERVICE, LanChild
from gatewayd.simulator.lan.floods import FLOODS
from gatewayd.simulator.lan.segment import Segment

MAX_PACKETS = 100_000
MAX_SECONDS = 600.0
TICK = 0.01  # seconds between two bursts

NAMES = (
    "nul\0nul", "esc\x1b[2J\x1b]0;owned\x07", "line\r\nbreak", "../../etc/passwd", "/dev/null",
    "%s%n{0.__class__}", "$(reboot)`reboot`", "\u202eevil\u202c", "\u2066hidden\u2069",
    "zero\u200bwidth", "\ufffd\ufeff", "a.dot.in.it", "topic/+/#", "'; DROP TABLE child; --",
    " ", "é" * 31, "x" * 63,
)  # fmt: skip
"""Instance names that are hostile to printing, formatting, splitting and paths."""

UNUSABLE_SERIALS = ("12345678", "none", "", "To Be Filled By O.E.M.", "TH20-" + "0" * 200)
"""Serial numbers that vendors leave in devices without one, or that no device can have."""

_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_ARABIC_DIGITS = {ord("0") + digit: 0x0660 + digit for digit in range(10)}


def similar_serials(serial: str) -> tuple[str, ...]:
    """Return serial numbers that resemble this one."""
    return (
        f"{serial}\n", f" {serial}", f"{serial} ", serial.lower(), f"{serial}\0", serial * 2,
        f"{serial}\x1b[0m", f"{serial}/../{serial}", f"\u202e{serial[::-1]}", f"{serial}\u200b",
        serial.translate(_FULL_WIDTH), serial.translate(_ARABIC_DIGITS), f"{serial}\u0301",
    )  # fmt: skip


SERIALS = (*similar_serials("TH20-0001A7"), *UNUSABLE_SERIALS)
"""Serial numbers that resemble an allowed one, or belong to no device."""


def strangers(rng: random.Random, service: str) -> Iterator[LanChild]:
    """Yield endless invented names, which match no rule."""
    while True:
        word = f"{rng.getrandbits(64):016x}"
        yield _forged(rng, service, instance=f"x-{word}", serial=word)


def lookalikes(rng: random.Random, service: str) -> Iterator[LanChild]:
    """Yield endless invented children, as plausible as the real ones."""
    while True:
        tail = f"{rng.getrandbits(24):06X}"
        yield _forged(rng, service, instance=f"{devices.MODEL} {tail}", serial=f"TH20-{tail}")


def hostile_names(rng: random.Random, service: str) -> Iterator[LanChild]:
    """Yield a device for each of NAMES."""
    for name in NAMES:
        yield _forged(rng, service, instance=name, serial=f"TH20-{rng.getrandbits(24):06X}")


def hostile_serials(
    rng: random.Random, service: str, serials: Iterable[str] = SERIALS
) -> Iterator[LanChild]:
    """Yield a device for each of the serial numbers."""
    for serial in serials:
        yield _forged(rng, service, instance=f"s-{rng.getrandbits(64):x}", serial=serial)


def oversized(rng: random.Random, service: str) -> Iterator[LanChild]:
    """Yield endless devices with 8 kB of TXT."""
    for child in strangers(rng, service):
        pad = tuple((f"pad{i}", "x" * 240) for i in range(33))
        yield replace(child, extra=pad)


def malformed(rng: random.Random, service: str) -> Iterator[bytes]:
    """Yield endless datagrams that are broken in one of five ways."""
    ways = (_flipped, _truncated, _looped, _overcounted, _shortened)
    for child in strangers(rng, service):
        yield rng.choice(ways)(rng, dns.encode(records.announcement(child)))


class Attacker:
    """An attacker that sends from the interface's address.  Needs a running loop.

    forge: a network, as "10.77.2.0/24", of which each packet gets another source address; the
    machine must own them, or it sends from the interface's.  "": from the interface's.
    rate: datagrams a second, never exceeded.  A call is bounded by MAX_PACKETS and MAX_SECONDS.
    """

    def __init__(
        self,
        interface_address: str = "127.0.0.1",
        *,
        rng: random.Random,
        service: str = SERVICE,
        forge: str = "",
    ) -> None:
        self._segment = Segment(interface_address)
        self._sources = ip_network(forge) if forge else None
        self._rng = rng
        self._service = service

    async def __aenter__(self) -> Self:
        self._segment.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._segment.close()

    async def flood(self, n: int, rate: float) -> int:
        """Announce n devices with invented names; return how many datagrams were sent."""
        return await self.announce(strangers(self._rng, self._service), n, rate)

    async def impersonate(self, n: int, rate: float) -> int:
        """Announce n devices that look like real ones."""
        return await self.announce(lookalikes(self._rng, self._service), n, rate)

    async def oversize(self, n: int, rate: float) -> int:
        """Announce n devices with 8 kB of TXT."""
        return await self.announce(oversized(self._rng, self._service), n, rate)

    async def malform(self, n: int, rate: float) -> int:
        """Send n broken datagrams."""
        return await self.send(malformed(self._rng, self._service), n, rate)

    async def exhaust(self, kind: str, n: int, rate: float) -> int:
        """Send n packets of one of FLOODS."""
        return await self.send(FLOODS[kind](self._rng, self._service), n, rate)

    async def hostile_text(self, rate: float, serials: Sequence[str] = SERIALS) -> int:
        """Announce each of NAMES and each of the serial numbers once."""
        names = await self.announce(hostile_names(self._rng, self._service), len(NAMES), rate)
        forged = hostile_serials(self._rng, self._service, serials)
        return names + await self.announce(forged, len(serials), rate)

    def spoof_goodbye(self, child: LanChild) -> bool:
        """Say goodbye in the name of a child that is present."""
        return self._segment.send(dns.encode(records.goodbye(child)))

    async def announce(self, children: Iterable[LanChild], n: int, rate: float) -> int:
        """Announce the first n of any devices."""
        packets = (dns.encode(records.announcement(child)) for child in children)
        return await self.send(packets, n, rate)

    async def send(self, packets: Iterable[bytes], n: int, rate: float) -> int:
        """Send the first n datagrams.  Raises ValueError for more than the bounds allow."""
        if not (0 <= n <= MAX_PACKETS and rate > 0 and n / rate <= MAX_SECONDS):
            raise ValueError("The attack exceeds its bounds in number or time")
        remaining = islice(packets, n)
        sent, share = 0, 0.0
        while True:
            share += rate * TICK
            burst = list(islice(remaining, int(share)))
            sent += sum(map(self._send, burst))
            if len(burst) < int(share):
                return sent
            share -= len(burst)
            await asyncio.sleep(TICK)

    def _send(self, packet: bytes) -> bool:
        if self._sources is None:
            return self._segment.send(packet)
        host = self._rng.randrange(1, self._sources.num_addresses - 1)
        return self._segment.send(packet, source=str(self._sources[host]))


def _forged(rng: random.Random, service: str, *, instance: str, serial: str) -> LanChild:
    tail = rng.getrandbits(24)
    return LanChild(
        instance=instance,
        serial=serial,
        mac=devices.mac(tail),
        host=f"x-{rng.getrandbits(64):016x}",
        address=f"198.51.100.{rng.randrange(1, 255)}",  # RFC 5737: for documentation only
        service=service,
    )


def _flipped(rng: random.Random, packet: bytes) -> bytes:
    """Flip eight bits."""
    broken = bytearray(packet)
    for _ in range(8):
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
    return bytes(broken)


def _truncated(rng: random.Random, packet: bytes) -> bytes:
    return packet[: rng.randrange(len(packet))]


def _looped(_: random.Random, packet: bytes) -> bytes:
    """Let the first name point at itself."""
    return packet[:12] + b"\xc0\x0c" + packet[14:]


def _overcounted(_: random.Random, packet: bytes) -> bytes:
    """Claim 65,535 entries in each section."""
    return packet[:4] + b"\xff" * 8 + packet[12:]


def _shortened(rng: random.Random, packet: bytes) -> bytes:
    """Remove a byte in the middle, so that all lengths after it are wrong."""
    at = rng.randrange(12, len(packet))
    return packet[:at] + packet[at + 1 :]
