"""What the tests of D-Bus share: views, commands that remember, and ways to look at the bus."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatewayd.dbus.bus import Bus, BusSettings
from gatewayd.dbus.glib import BusThread, Gio, Variant
from gatewayd.dbus.objects import ExportedObject
from gatewayd.dbus.ports import ManagerCommands
from gatewayd.device.decision_log import DecisionLog
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.views import DeviceView, Facts, HistoryEntry, ManagerView, MoveRow
from gatewayd.errors import NoSuchDevice, NotSupported, WrongState
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.site import Site
from tests.support.run_gatewayctl import MODULE, START

POLICY = Path(__file__).parents[2] / "packaging/dbus/org.gatewayd1.conf"
POLKIT_POLICY = Path(__file__).parent / "org.freedesktop.PolicyKit1.conf"
CANARY = "c4nary-s3cret"
RECORDED = (
    b'{"at": 0.0, "kind": "recording", "version": 1}\n'
    b'{"at": 1.5, "kind": "end", "reason": "time", "lost": 0}\n'
)
"""What is recorded, unless a test says so."""
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
OTHERS = [AS_NOBODY] if os.getuid() == 0 else []
"""Prefixes of commands that run as another user, which root alone can do."""
GATEWAY = ManagerView(
    "0.1.0", "running", "credential", ("alibaba", "huawei"), 1_700_000_000_000_000
)

_PLAIN = DeviceView(
    id=DeviceId("child-0"), name="Dock camera", state="pending", substate="awaiting-approval",
    reason="no-rule", explanation="No rule matches.", remedy="Approve it, or write a rule.",
    protocol="mdns/eth1", model="DS-2CD", vendor="hikvision", addresses=("10.0.0.7",),
    admission="none", trust="claimed", rule="", provider="", cloud_id="", secret_state="none",
    identity="mac 5026ef000001", attempts=0, first_seen=1, last_seen=2, state_changed=3,
    registered=0, activated=0, next_attempt=0,
    history=(HistoryEntry(3, "Seen", "discovered", Reason("seen", "Heard on eth1.")),),
)  # fmt: skip


def view(device: str, **changes: Any) -> DeviceView:
    """A child that waits for approval, save for these changes."""
    return replace(_PLAIN, id=DeviceId(device), **changes)


class RecordingCommands:
    """Commands that record their calls.

    gate: each command waits for it.  before: called before a command returns.
    hurts: the consequences of all commands.
    """

    def __init__(self, *known: str) -> None:
        self.known = known
        self.hurts: Sequence[str] = ()
        self.moves: Sequence[MoveRow] = ()
        self.asked: list[tuple[str, ...]] = []
        self.recorded = RECORDED
        self.before: Callable[[], Any] = lambda: None
        self.gate = asyncio.Event()
        self.gate.set()

    async def _ask(self, *what: str) -> None:
        self.asked.append(what)
        await self.gate.wait()
        self.before()

    async def approve(self, device: str, provider: str, caller: str) -> None:
        await self._ask("approve", device, provider, caller)

    async def reject(self, device: str, reason: str, caller: str) -> None:
        await self._ask("reject", device, reason, caller)

    async def retry(self, device: str, caller: str) -> None:
        await self._ask("retry", device, caller)

    async def reregister(self, device: str, again: str, caller: str) -> None:
        await self._ask("reregister", device, again, caller)

    async def rename(self, device: str, label: str, caller: str) -> None:
        await self._ask("rename", device, label, caller)
        raise WrongState(f"There is no renaming to '{label}'")

    async def forget(self, device: str, caller: str) -> None:
        await self._ask("forget", device, caller)

    async def repin(self, device: str, caller: str) -> None:
        await self._ask("repin", device, caller)

    async def move(
        self, device: str, provider: str, options: Mapping[str, object], caller: str
    ) -> None:
        await self._ask("move", device, provider, *map(str, options.values()), caller)

    async def cancel_move(self, device: str, caller: str) -> None:
        await self._ask("cancel-move", device, caller)

    async def forget_dormant(self, device: str, provider: str, caller: str) -> None:
        await self._ask("forget-dormant", device, provider, caller)

    async def list_moves(self, limit: int) -> Sequence[MoveRow]:
        return self.moves

    async def split(self, device: str, other: str, caller: str) -> None:
        await self._ask("split", device, other, caller)

    async def merge(self, kept: str, gone: str, caller: str) -> None:
        await self._ask("merge", kept, gone, caller)

    async def permit_join(self, seconds: int, options: Mapping[str, object], caller: str) -> None:
        said = (f"{key}={value!r}" for key, value in sorted(options.items()))
        await self._ask("permit-join", str(seconds), *said, caller)

    async def reload(self, caller: str) -> None:
        await self._ask("reload", caller)
        raise ValueError(f"the key is {CANARY}")

    async def discover(self, seconds: int, protocols: Sequence[str], caller: str) -> None:
        await self._ask("discover", str(seconds), *protocols, caller)

    async def list_refused(self) -> Sequence[tuple[int, str, str, str, str, str, int]]:
        return ((1_700_000_000_000_000, "mdns", "lan0", "10.0.0.9", "Lamp", "unresolved", 2),)

    async def record(self, seconds: int, options: Mapping[str, object], caller: str) -> int:
        await self._ask("record", str(seconds), *map(str, options.values()), caller)
        read, write = os.pipe()
        await asyncio.to_thread(os.write, write, self.recorded)
        os.close(write)
        return read

    async def dump(self, caller: str) -> int:
        await self._ask("dump", caller)
        read, write = os.pipe()
        await asyncio.to_thread(os.write, write, b"{}")
        os.close(write)
        return read

    def resolve(self, device: str) -> DeviceId:
        for known in self.known:
            if known.startswith(device):
                return DeviceId(known)
        raise NoSuchDevice("No such device")

    def test_admission(self, device: str) -> tuple[str, str, tuple[str, ...]]:
        return "ask", "cameras", (f"{self.resolve(device)}: trust is claimed, not listed",)

    def list_rules(self) -> tuple[tuple[str, str, str, int], ...]:
        return (("cameras", "register", "alibaba", 7), ("rest", "ask", "", 0))

    def suggest_rule(self, device: str, purpose: str, options: Mapping[str, object]) -> Facts:
        about = f"{self.resolve(device)} {purpose} {sorted(options.items())}"
        return {"Name": "like", "Text": f"# {about}\n", "List": "like.list", "Entry": "TH20"}

    def consequences(self, device: str, command: str) -> Sequence[str]:
        return self.hurts if self.resolve(device) else ()

    async def list_decisions(
        self, wanted: Mapping[str, object], limit: int
    ) -> Sequence[tuple[int, int, str, str, str, str, str]]:
        said = (f"{key}={value!r}" for key, value in sorted(wanted.items()))
        await self._ask("list-decisions", *said, str(limit))
        return [(2, 9, "rejected", "child-1a", "olga", "sshd from 192.0.2.7", "a guest")]


class UnsupportedStore:
    """A store that supports no command."""

    async def rotate(self, caller: str) -> None:
        raise NotSupported("This store has one key for ever")

    async def reseal(self, key: str, caller: str) -> None:
        raise NotSupported("This store has no key")

    async def add_recovery_key(self, public_key: str, caller: str) -> None:
        raise NotSupported("This store has no key")

    async def export(self, target: int, caller: str) -> None:
        raise NotSupported("This store does not export")

    async def accept_rollback(self, caller: str) -> None:
        raise NotSupported("This store has no history")

    async def accept_machine(self, caller: str) -> None:
        raise NotSupported("This store has no machine")


@contextmanager
def private_bus() -> Iterator[PrivateBus]:
    """A bus with our policy, and that of polkit."""
    with PrivateBus(POLICY, POLKIT_POLICY) as bus:
        yield bus


@asynccontextmanager
async def served(
    bus: PrivateBus,
    asked: ManagerCommands,
    /,
    *views: DeviceView,
    further: Sequence[ExportedObject] = (),
    decisions: DecisionLog | None = None,
    **settings: Any,
) -> AsyncIterator[Bus]:
    """The service on a bus, with these children, and further objects."""
    address = BusSettings(address=bus.address, **settings)
    ours = Bus(address, GATEWAY, decisions, jitter=lambda: 0.0)
    for one in views:
        ours.show(one)
    await ours.start(asked, further)
    running = [asyncio.ensure_future(service()) for service in ours.services()]
    try:
        yield ours
    finally:
        await cancel_and_wait(running)
        await ours.stop()


async def run(*words: str) -> tuple[int, str]:
    """Run a program; return its exit status, and all it printed.

    gatewayctl is forked, as the processes of sites are: tests/support/forked.py.
    """
    if words[: len(START)] == START:
        return await _run_gatewayctl(words[len(START) :])
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


async def _run_gatewayctl(words: Sequence[str]) -> tuple[int, str]:
    read, write = os.pipe()
    try:
        process = await Site.start_python((), MODULE, words, write)
    finally:
        os.close(write)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(read, "rb"))
    try:
        printed = await reader.read()
    finally:
        transport.close()
    return await process.wait(), printed.decode()


class Busctl:
    """busctl on one bus, as one user."""

    def __init__(self, bus: PrivateBus, *prefix: str) -> None:
        self._start = (*prefix, "busctl", f"--address={bus.address}")

    async def __call__(self, *words: str) -> str:
        """What it prints; it must succeed."""
        status, printed = await run(*self._start, *words)
        assert status == 0, printed
        return printed.strip()

    async def fails(self, *words: str) -> str:
        """What it prints; it must fail."""
        status, printed = await run(*self._start, *words)
        assert status != 0, printed
        return printed.strip()


async def error_of(
    bus: PrivateBus, location: tuple[str, str], method: str, *texts: str, prefix: Sequence[str] = ()
) -> tuple[str, str]:
    """The name of the error, which busctl hides, and its sentence, when a method gets these texts.

    location: path and interface.
    """
    path, interface = location
    status, printed = await run(
        *prefix, "dbus-send", f"--bus={bus.address}", "--print-reply", "--dest=org.gatewayd1",
        path, f"{interface}.{method}", *(f"string:{text}" for text in texts),
    )  # fmt: skip
    assert status != 0, printed
    name, _, sentence = printed.strip().removeprefix("Error ").partition(": ")
    return name, sentence


def connect(address: str) -> Any:
    """A connection to a bus, of the thread that makes it."""
    flags = Gio.DBusConnectionFlags
    kind = flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION
    return Gio.DBusConnection.new_for_address_sync(address, kind, None, None)


def own(bus: Any, name: str) -> int:
    """Own a name on a bus; return its answer, 1 if the name is ours."""
    driver = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    arguments, none = Variant("(su)", (name, 4)), Gio.DBusCallFlags.NONE
    answer = bus.call_sync(*driver, "RequestName", arguments, None, none, 5000, None)
    return int(answer.unpack()[0])


class SignalRecorder:
    """Records all signals of the service: (path, interface, name, values)."""

    def __init__(self) -> None:
        self.signals: list[tuple[str, str, str, Any]] = []

    def named(self, name: str) -> list[tuple[str, Any]]:
        """Paths and values of the signals of this name."""
        return [(path, values) for path, _, member, values in list(self.signals) if member == name]

    def open(self, address: str) -> None:
        """Subscribe, on the thread that receives the signals."""
        self.bus = connect(address)
        self.bus.signal_subscribe(
            "org.gatewayd1", None, None, None, None, Gio.DBusSignalFlags.NONE, self._record
        )
        self.bus.call_sync(
            "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId", None, None,
            Gio.DBusCallFlags.NONE, 5000, None,
        )  # fmt: skip

    def _record(
        self, _bus: Any, _sender: str, path: str, face: str, name: str, values: Any
    ) -> None:
        self.signals.append((path, face, name, values.unpack()))


@asynccontextmanager
async def recorded_signals(bus: PrivateBus) -> AsyncIterator[SignalRecorder]:
    """A recorder that receives signals from now on."""
    thread, listener = BusThread(asyncio.get_running_loop()), SignalRecorder()
    thread.start()
    await thread.run(listener.open, bus.address)
    try:
        yield listener
    finally:
        await thread.run(listener.bus.close_sync, None)
        await thread.stop()
