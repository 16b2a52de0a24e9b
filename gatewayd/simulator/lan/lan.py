"""A simulated LAN of child devices, with their true state."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gatewayd.simulator.lan import child as devices
from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import LanChild
from gatewayd.simulator.lan.dns import DnsMessage, Name, fold
from gatewayd.simulator.lan.responder import MdnsCounters, MdnsResponder, QueryAssembler
from gatewayd.simulator.lan.segment import Endpoint, Segment, TcpGreeter


class LanPresence(StrEnum):
    """The true presence of a device, whatever it has announced."""

    LATE = "late"  # it appears later, by itself
    PRESENT = "present"
    LEFT = "left"  # it said goodbye
    DEAD = "dead"  # it went silent


@dataclass(slots=True)
class _Device:
    child: LanChild
    presence: LanPresence = LanPresence.PRESENT
    clone_of: int | None = None
    responder: MdnsResponder | None = None
    listener: TcpGreeter | None = None


class SimulatedLan:
    """A LAN whose children announce themselves, answer queries, and follow orders.

    interface_address: the interface they are on, as of `Segment`; 127.0.0.1 needs no rights, and
    there each child speaks from its own address.
    rng: decides all delays; time is the event loop's.
    late: children that come later, each with the seconds after the start.
    spread: seconds over which the first announcements are spread.
    listen: whether each child accepts TCP on its address and port, sends its identity in one line
    of JSON, and hangs up; its address must be one of this machine.

    A device is named by its number: its place in `children`, then in the order they were added.
    """

    def __init__(
        self,
        children: Iterable[LanChild],
        interface_address: str = "127.0.0.1",
        *,
        rng: random.Random,
        late: Iterable[tuple[float, LanChild]] = (),
        spread: float = 1.0,
        listen: bool = False,
    ) -> None:
        late = tuple(late)
        self.counters = MdnsCounters()
        self._segment = Segment(interface_address)
        self._rng = rng
        self._devices = [_Device(child) for child in children]
        self._coming = {len(self._devices) + i: delay for i, (delay, _) in enumerate(late)}
        self._devices += [_Device(child, LanPresence.LATE) for _, child in late]
        self._spread = spread
        self._listen = listen
        self._index: dict[Name, set[int]] = {}
        self._timers: list[asyncio.TimerHandle] = []
        self._assembler: QueryAssembler | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Switch all on.  Raises OSError, and leaves nothing behind then."""
        self._assembler = QueryAssembler(self._answer, self._rng, self.counters)
        try:
            self._segment.open(self._assembler.receive)
            for number, device in enumerate(self._devices):
                if device.presence is LanPresence.PRESENT:
                    self._appear(number, self._rng.uniform(0, self._spread))
        except OSError:
            self.stop()
            raise
        loop = asyncio.get_running_loop()
        self._timers = [loop.call_later(d, self._arrive, n) for n, d in self._coming.items()]

    def stop(self) -> None:
        """Switch all off at once, without goodbyes.  The true state stays readable."""
        for timer in self._timers:
            timer.cancel()
        for number in range(len(self._devices)):
            self._vanish(number)
        if self._assembler is not None:
            self._assembler.close()
        self._segment.close()

    def add(self, child: LanChild) -> int:
        """Plug in another device; return its number.  Raises OSError if it cannot listen."""
        self._devices.append(_Device(child, LanPresence.DEAD))
        self._appear(len(self._devices) - 1)
        return len(self._devices) - 1

    def leave(self, number: int) -> None:
        """Let a device say goodbye and leave."""
        device = self._devices[number]
        if device.responder is not None:
            device.responder.leave()
        self._go(number, LanPresence.LEFT)

    def die(self, number: int) -> None:
        """Cut a device's power."""
        self._go(number, LanPresence.DEAD)

    def rejoin(self, number: int) -> None:
        """Switch a device on, whether it has left, has died, is late or is present."""
        self._vanish(number)
        self._appear(number)

    def rename(self, number: int, instance: str) -> None:
        """Give a device another instance name: the old one says goodbye."""
        device = self._devices[number]
        if device.responder is not None:
            device.responder.rename()
        self._become(number, replace(device.child, instance=instance))

    def move(self, number: int, address: str) -> None:
        """Give a device another address, as a DHCP server might."""
        self._become(number, replace(self._devices[number].child, address=address))

    def clone(self, number: int, address: str = "") -> int:
        """Plug in another device with the same serial; return its number.

        address: its own (default: the one after the highest in use).
        """
        free = address or devices.next_address([device.child for device in self._devices])
        twin = self.add(devices.clone(self._devices[number].child, free, self._rng))
        self._devices[twin].clone_of = number
        return twin

    def child(self, number: int) -> LanChild:
        """Return a device as it is now."""
        return self._devices[number].child

    def truth(self) -> dict[str, Any]:
        """Return the true state now, for JSON: an entry of `children` for each number."""
        children = [_describe(device) for device in self._devices]
        return {"interface": self._segment.interface_address, "children": children}

    async def write_truth(self, path: Path) -> None:
        """Write `truth` to a file atomically."""
        text = json.dumps(self.truth(), indent=1)
        await asyncio.to_thread(_replace, path, text)

    def _become(self, number: int, child: LanChild) -> None:
        device = self._devices[number]
        was, device.presence = device.presence, LanPresence.DEAD
        self._vanish(number)
        device.child = child
        if was is LanPresence.PRESENT:
            self._appear(number)
        else:
            device.presence = was

    def _arrive(self, number: int) -> None:
        if self._devices[number].presence is LanPresence.LATE:
            self._appear(number)

    def _appear(self, number: int, delay: float = 0.0) -> None:
        device = self._devices[number]
        if self._listen:
            device.listener = _listener(device.child)
        device.presence = LanPresence.PRESENT
        for name in _names(device.child):
            self._index.setdefault(name, set()).add(number)
        device.responder = MdnsResponder(device.child, self._send, self._rng, self.counters)
        device.responder.announce(delay)

    def _go(self, number: int, presence: LanPresence) -> None:
        self._vanish(number)
        self._devices[number].presence = presence

    def _vanish(self, number: int) -> None:
        device = self._devices[number]
        for name in _names(device.child):
            numbers = self._index.get(name, set())
            numbers.discard(number)
            if not numbers:
                self._index.pop(name, None)
        if device.listener is not None:
            device.listener.close()
        if device.responder is not None:
            device.responder.silence()
        device.listener = device.responder = None

    def _answer(self, query: records.MdnsQuery, sender: Endpoint) -> None:
        asked = {fold(question.name) for question in query.questions}
        for number in sorted(set().union(*(self._index.get(name, ()) for name in asked))):
            responder = self._devices[number].responder
            assert responder is not None, "only what has appeared is in the index"
            responder.handle_query(query, sender)

    def _send(self, message: DnsMessage, to: Endpoint, source: str) -> bool:
        return self._segment.send(dns.encode(message), to, source=source)


def _names(child: LanChild) -> set[Name]:
    return {fold(record.name) for record in records.records(child)}


def _describe(device: _Device) -> dict[str, Any]:
    state = {"presence": device.presence.value, "clone_of": device.clone_of}
    return asdict(device.child) | {"extra": dict(device.child.extra)} | state


def _listener(child: LanChild) -> TcpGreeter:
    identity = {"serial": child.serial, "mac": child.mac, "model": child.model}
    return TcpGreeter(child.address, child.port, json.dumps(identity).encode() + b"\n")


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)
