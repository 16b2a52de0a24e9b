"""A real mosquitto with the configuration that is shipped, and users as gatewayd writes them.

What systemd does for it is done here: its own copies of the files, and a signal when they change.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gatewayd.device.identity import DeviceId
from gatewayd.messages.broker import files
from gatewayd.messages.broker.access import BrokerAccess
from gatewayd.messages.broker.certificates import BrokerAuthority
from gatewayd.messages.broker.settings import BrokerPlaces, BrokerSettings
from gatewayd.messages.broker.users import Standing
from gatewayd.runtime.clock import SYSTEM_CLOCK, Clock
from gatewayd.runtime.tasks import cancel_and_wait
from tests.messages.broker.client import PATIENCE, MqttClient, Place, connected
from tests.support.fakes import MemoryRecords, MemorySecrets
from tests.support.mosquitto import end, free_port

CONFIGURATION = Path(__file__).parents[3] / "packaging/mosquitto/broker.conf"
PROGRAM = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") or "mosquitto"
UNPRIVILEGED = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
LOOK = 0.02

ONE, OTHER = DeviceId("child-0123456789ab"), DeviceId("child-ba9876543210")


def free_ports(count: int) -> list[int]:
    """Return different ports of this machine that nothing listens on, and that no client gets."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return sorted(found)


@dataclass
class RunningBroker:
    """A broker.

    directory: of its files, short enough for the path of a socket.
    inside: what a command line begins with, to be run in the broker's network.
    """

    directory: Path
    settings: BrokerSettings
    inside: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    reloads: int = 0

    @property
    def places(self) -> BrokerPlaces:
        return BrokerPlaces(self.directory / "access", self.directory / "socket")

    @property
    def local(self) -> Place:
        return Place(socket=self.places.socket)

    def prepare(self) -> None:
        """Make the directories, and the configuration."""
        for name in ("access", "listeners", "state"):
            (self.directory / name).mkdir()
        text = CONFIGURATION.read_text()
        text = text.replace("/run/gatewayd-broker", str(self.directory))
        text = text.replace("/var/lib/gatewayd-broker/", f"{self.directory}/state/")
        (self.directory / "broker.conf").write_text(text)

    def start(self) -> None:
        """Start it as the unit does."""
        self._copy()
        prefix = UNPRIVILEGED if os.geteuid() == 0 else ()
        if prefix:
            for path in (self.directory, *self.directory.rglob("*")):
                os.chown(path, 65534, 65534)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.inside, *prefix, PROGRAM, "-c", self.directory / "broker.conf"],
                stdout=log,
                stderr=log,
            )

    def reload(self) -> None:
        """Have it read its files again, as the unit does."""
        self._copy()
        self.signal(signal.SIGHUP)
        self.reloads += 1

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            end(self.process)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def _copy(self) -> None:
        """Replace the broker's files as wholes: it may still be reading them."""
        access, new = self.places.access, self.directory / "new"
        new.mkdir(exist_ok=True)
        copies = [Path(shutil.copy(access / name, new)) for name in (files.PASSWORDS, files.ACCESS)]
        shutil.copy(access / files.LISTENERS, self.directory / "listeners")
        if os.geteuid() == 0:
            for path in (*access.iterdir(), *copies):
                with contextlib.suppress(FileNotFoundError):  # a new one that has got its name
                    os.chown(path, 65534, 65534)
        for path in copies:
            path.rename(self.directory / path.name)


@dataclass
class Site:
    """A broker, gatewayd's side of it, and the verdicts on children."""

    broker: RunningBroker
    admitted: set[DeviceId] = field(default_factory=lambda: {ONE, OTHER})
    secrets: MemorySecrets = field(default_factory=lambda: MemorySecrets(MemoryRecords()))
    access: BrokerAccess = field(init=False)

    def make_access(self, clock: Clock = SYSTEM_CLOCK) -> BrokerAccess:
        """Make gatewayd's side, as a start of it does."""
        self.access = BrokerAccess(
            self.broker.settings,
            self.broker.places,
            self.broker.directory,
            BrokerAuthority(self.secrets),
            standing=lambda child: Standing.ADMITTED if child in self.admitted else Standing.OUT,
            resolve=DeviceId,
            clock=clock,
        )
        return self.access

    async def password(self, child: DeviceId) -> bytes:
        """Give a child a password, and return it."""
        return await secret_from(lambda end: self.access.set_password(child, end, "uid 0"))

    def gatewayd(self, *, clean: bool = True) -> contextlib.AbstractAsyncContextManager[MqttClient]:
        """Connect as gatewayd does."""
        return connected(
            self.broker.local, "gatewayd", self.access.password.reveal(), version=5, clean=clean
        )


async def secret_from(command: Callable[[int], Awaitable[None]]) -> bytes:
    """Run a command that writes a password to a descriptor; return what it wrote."""
    reading, writing = os.pipe()
    try:
        await command(writing)
        return os.read(reading, 4096).removesuffix(b"\n")
    finally:
        os.close(writing)
        os.close(reading)


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """Yield a new directory whose path leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="gb", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.asynccontextmanager
async def running(site: Site) -> AsyncIterator[None]:
    """Run gatewayd's side and the broker until the block ends, with systemd's part between them."""
    broker = site.broker
    writes = asyncio.create_task(site.access.run())
    passwords = broker.places.access / files.PASSWORDS
    while not (started_with := await asyncio.to_thread(version, passwords)):
        await asyncio.sleep(LOOK)
    await asyncio.to_thread(broker.start)
    watches = asyncio.create_task(watch(broker, passwords, started_with))
    try:
        await until_connected(site)
        yield
    finally:
        await cancel_and_wait({writes, watches})
        await asyncio.to_thread(broker.stop)


async def until_connected(site: Site) -> None:
    """Return once gatewayd can log in.  Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(OSError, EOFError, AssertionError):
                async with site.gatewayd():
                    return
            await asyncio.sleep(LOOK)


def version(file: Path) -> tuple[int, ...]:
    """Return what differs once a file was replaced: it may have the old inode.  () for no file."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


async def watch(broker: RunningBroker, passwords: Path, seen: tuple[int, ...]) -> None:
    """Reload the broker each time that the password file was replaced.  seen: what it has read."""
    while True:
        await asyncio.sleep(LOOK)
        if (found := await asyncio.to_thread(version, passwords)) != seen:
            seen = found
            await asyncio.to_thread(broker.reload)
