"""The discoverer of the devices that the configuration lists."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from gatewayd.device.identity import Claim, Trust, claim
from gatewayd.device.identity import mac as mac_digits
from gatewayd.discovery import sanitize
from gatewayd.discovery.discoverer import MAX_ATTRIBUTES, Context, Health, Sighting, Sink
from gatewayd.discovery.probing.protocol import SUSPECT, Transmission
from gatewayd.discovery.settings import MAX_LISTED
from gatewayd.errors import ConfigError
from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, setting

SOURCE = "static"
VALID_FOR = 86400.0
"""Seconds for which a listed device is believed; it is reported again after half of them."""
VERIFY = 3.0
"""Seconds in which a device must be located, and accept a connection."""
LOCATE_EVERY = 300.0
"""Seconds until a device without an address of its own is located again."""
MAX_ADDRESSES = 8
"""Addresses of one device that count."""

Locate = Callable[[str, str], Awaitable[Sequence[str]]]

_OWN = frozenset({"source", "name", "address", "port"})


@dataclass(frozen=True, slots=True)
class StaticDevice:
    """[[discovery.<name>.devices]]  One of serial, mac, uuid and host is needed."""

    key: str = setting(REQUIRED, "a name, unique in this list")
    serial: str = setting("", "its serial number")
    mac: str = setting("", "its MAC, as 24:0a:c4:0c:2f:91")
    uuid: str = setting("", "its UUID")
    namespace: str = setting(
        SOURCE, "namespace of its serial number and UUID, as a DNS-SD service type"
    )
    address: str = setting(
        "", "its IP address (default: where its host name or its MAC is found)", grammar=grammar.ip
    )
    host: str = setting("", "its host name, looked up if no address is given", grammar=grammar.host)
    port: int = setting(0, "a TCP port it listens on; 0 for none", low=0, high=65535)
    attributes: Mapping[str, str] = setting({}, "further attributes that rules may match")


@dataclass(frozen=True, slots=True)
class StaticSettings:
    """[discovery.<name>] with kind = "static"."""

    devices: tuple[StaticDevice, ...] = setting(
        (), "devices that are reported without being announced on the LAN"
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        keys = [device.key for device in self.devices]
        if len(set(keys)) < len(keys):
            yield "each of devices must have a unique key"
        if len(keys) > MAX_LISTED:
            yield f"devices lists {len(keys)}; at most {MAX_LISTED} may be listed"
        for device in self.devices:
            try:
                sighting(SOURCE, device)
            except ConfigError as error:
                yield str(error)


class Static:
    """The discoverer of listed devices.  It never reports a loss.  Raises ConfigError."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = StaticSettings
    isolated: ClassVar[bool] = False

    def __init__(self, name: str, settings: StaticSettings) -> None:
        self.name = name
        self.health = Health()
        self._again = asyncio.Event()
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        listed = (sighting(name, device) for device in settings.devices)
        self._listed = {one.key: one for one in listed}
        self._whereabouts = {
            one.key: where for one in settings.devices if (where := _whereabouts(one))
        }
        self._locate: Locate | None = None

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is sent: look-ups of host names, and connections to devices with a port."""
        lookups = [
            Transmission(f"the resolver: {value}", "", LOCATE_EVERY, 0, "where a listed device is")
            for what, value in self._whereabouts.values()
            if what == "host"
        ]
        connections = [
            Transmission(f"{one.label} port {one.port} by TCP", one.interface, 0.0, 0,
                         "whether it accepts a connection", SUSPECT)
            for one in self._listed.values()
            if one.port
        ]  # fmt: skip
        return lookups + connections

    async def run(self, context: Context, sink: Sink) -> None:
        """Report all devices, and again before they expire; those that move more often."""
        self.health.entries = len(self._listed)
        self._locate = context.locate
        moving = [self._listed[key] for key in self._whereabouts]
        fixed = [one for key, one in self._listed.items() if key not in self._whereabouts]
        while True:
            self._again.clear()
            await self._report((*fixed, *moving), context, sink)  # a look-up may take long
            end = context.now() + VALID_FOR / 2
            while (left := end - context.now()) > 0:
                try:
                    async with asyncio.timeout(min(left, LOCATE_EVERY) if moving else left):
                        await self._again.wait()
                        break
                except TimeoutError:
                    if left > LOCATE_EVERY:
                        await self._report(moving, context, sink)

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Return the device if it is listed, and accepts a connection if it has a port."""
        listed = self._listed.get(sighting.key)
        if listed is None:
            return None
        found = await self._located(listed)
        if not await _answers(found):
            return None
        return replace(found, at=asyncio.get_running_loop().time())

    async def rescan(self) -> None:
        """Report all devices again."""
        self._again.set()

    async def _report(self, some: Iterable[Sighting], context: Context, sink: Sink) -> None:
        for one in some:
            await sink.room()
            found = await self._located(one)
            self.health.sighted += 1
            sink.sight(replace(found, at=context.now()))

    async def _located(self, listed: Sighting) -> Sighting:
        """Return a device with the addresses where it is now; as listed if these are not known."""
        where = self._whereabouts.get(listed.key)
        if where is None or self._locate is None:
            return listed
        try:
            async with asyncio.timeout(VERIFY):
                found = tuple(await self._locate(*where))[:MAX_ADDRESSES]
        except TimeoutError:
            found = ()
        if not found:
            self.health.drop("not-located")
            return listed
        attributes = {**listed.attributes, "address": found[0]}
        return replace(listed, addresses=found, attributes=attributes)


def sighting(source: str, device: StaticDevice) -> Sighting:
    """Make the sighting of a listed device.  Raises ConfigError, naming the device's key."""
    where = f"device {sanitize.label(device.key)!r}"
    claims = _claims(where, device)
    own = {
        "source": SOURCE,
        "name": device.key,
        "host": device.host,
        "address": _address(where, device.address),
        "port": str(device.port or ""),
        "serial": device.serial.strip(),
        "mac": mac_digits(device.mac),
        "uuid": device.uuid.strip(),
    }
    attributes = {key: value for key, value in own.items() if value} | _extra(where, device)
    is_clean = all(sanitize.attribute(key, value) for key, value in own.items())
    if len(attributes) > MAX_ATTRIBUTES or not is_clean:
        raise ConfigError(f"{where} has a key or attributes that are too long")
    return Sighting(
        source=source,
        key=device.key,
        at=0.0,
        valid_for=VALID_FOR,
        interface="",
        addresses=(own["address"],) if own["address"] else (),
        port=device.port or None,
        claims=claims,
        attributes=attributes,
        label=sanitize.label(device.key),
        trust=Trust.LISTED,
    )


def _claims(where: str, device: StaticDevice) -> frozenset[Claim]:
    given = {"serial": device.serial, "mac": device.mac, "uuid": device.uuid}
    made = {k: claim(k, device.namespace, value) for k, value in given.items() if value}
    for kind, one in made.items():
        if one is None:
            raise ConfigError(f"{where}: its {kind} identifies nothing; write the real one")
    if not made and not device.host:
        raise ConfigError(f"{where} needs a serial, a mac, a uuid or a host")
    return frozenset(one for one in made.values() if one)


def _whereabouts(device: StaticDevice) -> tuple[str, str] | None:
    """Return by what a device is to be located: "host" or "mac", and its value."""
    if device.address:
        return None
    if device.host:
        return "host", device.host
    return ("mac", mac_digits(device.mac)) if device.mac else None


def _address(where: str, written: str) -> str:
    if not written:
        return ""
    try:
        return str(ipaddress.ip_address(written))
    except ValueError as error:
        raise ConfigError(f"{where}: its address is not an IP address") from error


def _extra(where: str, device: StaticDevice) -> dict[str, str]:
    extra: dict[str, str] = {}
    for key, value in device.attributes.items():
        pair = sanitize.attribute(key, value)
        if pair is None or pair[0] in _OWN:
            raise ConfigError(f"{where}: attribute {sanitize.label(key)!r} cannot be matched")
        extra[pair[0]] = pair[1]
    return extra


async def _answers(listed: Sighting) -> bool:
    """Whether a listed device accepts a connection at an address; True if it has no port."""
    if not listed.addresses or listed.port is None:
        return True
    tried = (_accepts(one, listed.port) for one in listed.addresses)
    return any(await asyncio.gather(*tried))


async def _accepts(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(VERIFY):
            _, writer = await asyncio.open_connection(address, port)
    except OSError:  # a time-out is one, too
        return False
    writer.close()
    return True
