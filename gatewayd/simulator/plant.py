"""A plant: a simulated cloud, and a LAN of children that may register at it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import repeat
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, Self

from gatewayd.errors import ConfigError
from gatewayd.simulator import pki
from gatewayd.simulator.account import LOOPBACK, AccountOptions, CloudAccount
from gatewayd.simulator.alibaba.account import SimulatedAlibabaAccount
from gatewayd.simulator.broker.account import BrokerAccount
from gatewayd.simulator.broker.certified import CertifiedBrokerAccount
from gatewayd.simulator.huawei.account import SimulatedHuaweiAccount
from gatewayd.simulator.lan.attacker import UNUSABLE_SERIALS, Attacker, similar_serials
from gatewayd.simulator.lan.child import NETWORK, clone, fleet
from gatewayd.simulator.lan.floods import FLOODS
from gatewayd.simulator.lan.lan import SimulatedLan
from gatewayd.simulator.mqtt.journal import CloudJournal

ACCOUNTS: Mapping[str, Callable[[AccountOptions], CloudAccount]] = {
    "alibaba": SimulatedAlibabaAccount,
    "huawei": SimulatedHuaweiAccount,
    "mqtt": BrokerAccount,
}
"""The clouds that can be simulated, or run."""
IDENTITIES = ("password", "certificate")
"""How children may prove who they are, where the cloud is a broker."""
KEPT = "kept-state"
"""The file of what outlives a restart."""
VERSION = 2
"""Of that file."""
OURS = "gatewayd.simulator."
HOLDING = tuple(
    OURS + name
    for name in (
        "plant",
        "rate_window",
        "alibaba",
        "huawei.platform",
        "huawei.exchange",
        "huawei.x509",
    )
)
"""Modules whose objects are kept; those of others serve them, and hang themselves in again."""
DETACHED = "detached"
"""What stands there for those, and for functions inside of others."""
RATE = 500.0
"""Datagrams of an attacker in a second, where no rate is given."""


@dataclass(frozen=True, slots=True)
class PlantLayout:
    """The layout of a plant.

    directory: for ca.pem, the files of the cloud's clients, serials.txt and plant.json.
    cloud: a key of ACCOUNTS.
    children: on the LAN from the start; late: known to the cloud, and announced on request.
    interface: IPv4 address of the LAN's interface, or its name, for IPv6; network: the children's
    addresses.
    address: IP address the cloud listens on; certificate: a key of account.CERTIFICATES.
    unlisted: the number of the last children that are left out of serials.txt.
    node: the node type of the children's product: "direct", or "sub-device" of a gateway.
    identity: how children prove who they are at a broker: "password", or "certificate".
    rate: connections that the cloud lets through in a minute for each device; 0 for no limit.
    port: that the cloud listens on; 0 takes a free one, or that of before.
    keep: whether the cloud's state is kept in the directory, and a restart goes on with it.
    empty: whether the cloud knows no product and no device, until its owner makes them.
    journal: the file of what arrives at the cloud (journal.py); "" for none.
    """

    directory: Path
    cloud: str = "alibaba"
    children: int = 20
    late: int = 0
    unlisted: int = 0
    seed: int = 1
    interface: str = LOOPBACK
    network: str = NETWORK
    address: str = LOOPBACK
    certificate: str = "good"
    faults: str = ""
    node: str = "direct"
    identity: str = "password"
    rate: int = 5
    port: int = 0
    keep: bool = False
    empty: bool = False
    journal: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept over a restart.

    of: what a plant must have in common with it.  authority: as of pki.written_ca.
    port: of the cloud.  account: as the cloud's own account has given it.
    """

    of: tuple[object, ...]
    authority: str
    port: int
    account: object


class _Pickler(pickle.Pickler):
    """Leaves out what the running parts have hung in: they hang it in again."""

    def persistent_id(self, obj: object) -> object:
        """Return what stands for an object; None for one that is pickled."""
        if (certificate := pki.der_of(obj)) is not None:
            return certificate
        running = obj.__self__ if isinstance(obj, MethodType) else obj
        local = isinstance(obj, FunctionType) and "<" in obj.__qualname__
        module = type(running).__module__
        serves = module.startswith(OURS) and not module.startswith(HOLDING)
        return DETACHED if local or serves or isinstance(obj, asyncio.Future) else None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> object:  # noqa: ANN401  # what persistent_id gave
        """Return what such an id stands for."""
        return _nothing if pid == DETACHED else pki.of_der(pid)


def _nothing(*_: object) -> None:
    """Stand where a running part hung itself in."""


def _same(layout: PlantLayout) -> tuple[object, ...]:
    return VERSION, layout.cloud, layout.node, layout.seed, layout.children + layout.late


def _read_kept(layout: PlantLayout) -> _Kept | None:
    """Return what an earlier plant has kept; None for nothing.  Raises ConfigError."""
    path = layout.directory / KEPT
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise ConfigError(f"{path} may be another user's: remove it")
            found = _Unpickler(file).load()
    except FileNotFoundError:
        return None
    except (pickle.UnpicklingError, AttributeError, EOFError, ImportError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Remove it to begin again") from error
    if not isinstance(found, _Kept) or found.of != _same(layout):
        raise ConfigError(
            f"{path} is of a plant with other --cloud, --node, --seed or children, or of another "
            "version: use those, or remove it to begin again"
        )
    return found


def _write_kept(kept: _Kept, layout: PlantLayout) -> None:
    """Write it, completely or not at all."""
    unfinished = layout.directory / f"{KEPT}.new"
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        _Pickler(file).dump(kept)
    unfinished.rename(layout.directory / KEPT)


class Plant:
    """A plant that runs while the `async with` lasts.  A child is named by its serial number."""

    def __init__(self, layout: PlantLayout) -> None:
        self.layout = layout
        children = fleet(layout.children + layout.late, layout.seed, network=layout.network)
        self._numbers = {child.serial: number for number, child in enumerate(children)}
        self._rng = random.Random(layout.seed)  # play, not cryptography
        self.lan = SimulatedLan(children[: layout.children], layout.interface, rng=self._rng)
        self._waiting = list(children[layout.children :])
        now = datetime.now(UTC)
        kept = _read_kept(layout) if layout.keep else None
        self._authority = (
            pki.make_ca("gatewayd simulator", now - pki.LIFE, now + pki.LIFE)
            if kept is None
            else pki.read_ca(kept.authority)
        )
        self._journal = CloudJournal(Path(layout.journal)) if layout.journal else None
        certified = layout.cloud == "mqtt" and layout.identity == "certificate"
        self.cloud = (CertifiedBrokerAccount if certified else ACCOUNTS[layout.cloud])(
            AccountOptions(
                self.serials, layout.node, layout.address, layout.certificate,
                self._authority, now, layout.rate,
                layout.port or (kept.port if kept else 0), kept.account if kept else None,
                layout.empty, self._journal, self._journal,
            )
        )  # fmt: skip
        self.cloud.set_faults(layout.faults, layout.seed)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._write)
        if self._journal is not None:
            self._stack.enter_context(self._journal)
        await self._stack.enter_async_context(self.cloud)
        await self._stack.enter_async_context(self.lan)
        return self

    async def __aexit__(self, *_: object) -> None:
        port = self.facts()["port"]
        await self._stack.aclose()
        if self.layout.keep:
            authority, account = pki.written_ca(self._authority), self.cloud.kept()
            await asyncio.to_thread(
                _write_kept, _Kept(_same(self.layout), authority, port, account), self.layout
            )

    @property
    def serials(self) -> tuple[str, ...]:
        """The serial numbers of all children, present or late."""
        return tuple(self._numbers)

    def facts(self) -> dict[str, Any]:
        """Return the facts that a client needs."""
        layout = {"cloud": self.layout.cloud, "node": self.layout.node}
        return {**self.cloud.facts(), **layout, "serials": self.serials}

    def truth(self) -> dict[str, Any]:
        """Return the true state of the cloud and the LAN now."""
        return {"cloud": self.cloud.truth(), "lan": self.lan.truth()}

    def announce(self, serial: str) -> None:
        """Announce a child that was late, has left or has died."""
        for child in self._waiting:
            if child.serial == serial:
                self._waiting.remove(child)
                self._numbers[serial] = self.lan.add(child)
                return
        self.lan.rejoin(self._numbers[serial])

    def number(self, serial: str) -> int:
        """Return the LAN's number of a child that was announced.  Raises KeyError."""
        if any(child.serial == serial for child in self._waiting):
            raise KeyError(serial)
        return self._numbers[serial]

    async def attack(self, kind: str, count: int, rate: float, forge: str = "") -> int:
        """Attack the LAN; return the datagrams sent.

        kind: flood, impersonate, oversize, malform, or one of FLOODS.  forge: as of `Attacker`.
        """
        async with Attacker(self.layout.interface, rng=self._rng, forge=forge) as attacker:
            if kind in FLOODS:
                return await attacker.exhaust(kind, count, rate)
            return int(await getattr(attacker, kind)(count, rate))

    async def hostile_text(self, serial: str) -> int:
        """Announce hostile names, and serial numbers that resemble this one."""
        async with Attacker(self.layout.interface, rng=self._rng) as attacker:
            return await attacker.hostile_text(RATE, (*similar_serials(serial), *UNUSABLE_SERIALS))

    async def spoof_goodbye(self, serial: str) -> bool:
        """Send a goodbye in the name of a child."""
        async with Attacker(self.layout.interface, rng=self._rng) as attacker:
            return attacker.spoof_goodbye(self.lan.child(self.number(serial)))

    async def replay(self, number: int, count: int, rate: float) -> int:
        """Repeat the announcement of a device of the LAN, unchanged, so many times."""
        async with Attacker(self.layout.interface, rng=self._rng) as attacker:
            return await attacker.announce(repeat(self.lan.child(number)), count, rate)

    def usurp(self, serial: str, other: str) -> int:
        """Plug in a device with a child's instance name and another serial; return its number."""
        child = self.lan.child(self.number(serial))
        twin = clone(child, str(ip_network(self.layout.network)[-2]), self._rng)
        return self.lan.add(replace(twin, instance=child.instance, serial=other))

    def _write(self) -> None:
        directory = self.layout.directory
        (directory / "ca.pem").write_text(self._authority.pem)
        self.cloud.write(directory)
        listed = self.serials[: len(self.serials) - self.layout.unlisted]
        (directory / "serials.txt").write_text("".join(f"{serial}\n" for serial in listed))
        (directory / "serials.txt").chmod(0o644)

    def write_facts(self) -> None:
        """Write plant.json, as the last file: a client that finds it may start."""
        unfinished = self.layout.directory / "plant.json.new"
        unfinished.write_text(json.dumps(self.facts()) + "\n")
        unfinished.rename(self.layout.directory / "plant.json")
