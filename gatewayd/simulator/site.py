"""A site of real processes: a bus, a plant and gatewayd, for tests and the demo.

gatewayd is observed over D-Bus only, as by an operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from gatewayd.simulator.broker.site_broker import SiteBroker
from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.control import ask
from gatewayd.simulator.site_files import config, rules

POLICY = Path(__file__).parents[2] / "packaging/dbus/org.gatewayd1.conf"
MANAGER = ("org.gatewayd1", "/org/gatewayd1", "org.gatewayd1.Manager")
PATIENCE = 60.0
"""Seconds to wait for a condition, on a slow machine."""
POLL, SLOWER, SELDOM = 0.1, 1.3, 0.5
"""Seconds between the first two checks of it; by how much each next pause is longer; the longest.

Each check is a process, and a message to gatewayd, which compete with what is waited for.
"""


class Running(Protocol):
    """A process, as one of asyncio.subprocess."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int:
        """Return its exit status, once it has ended."""

    def send_signal(self, signal: int) -> None:
        """Raises ProcessLookupError if it has ended, as do the others."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


class StartPython(Protocol):
    """How a module is run as a process."""

    async def __call__(
        self, prefix: Sequence[str], module: str, arguments: Sequence[str], output: int | None
    ) -> Running:
        """Start it.  prefix: of the command.  output: a descriptor; None for ours."""


async def start_python(
    prefix: Sequence[str], module: str, arguments: Sequence[str], output: int | None = None
) -> Running:
    """Run a module by this interpreter."""
    return await asyncio.create_subprocess_exec(
        *prefix, sys.executable, "-m", module, *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
    )  # fmt: skip


@dataclass(slots=True)
class Site:
    """A site in one directory.  A child is named by its serial number.

    gateway, children, broker_prefix: prefixes of the commands that run gatewayd, the plant and the
    site's broker, as ("ip", "netns", "exec", NAME).  interface: what gatewayd listens on.
    plant_options: more arguments for the simulator.  cloud: the simulated one.
    route: that of all rules; "" leaves it to each.
    identity: how children prove who they are, where the cloud is a broker.
    key_algorithm: of the devices' certificates.  policies: of the message bus.
    speaks: whether the site has a broker of MQTT, to which its children publish.
    commanded: whether they get commands there, too: that properties be set.
    start_python: how gatewayd and the plant are started; another one is for all sites of a process.
    """

    start_python: ClassVar[StartPython] = staticmethod(start_python)
    directory: Path
    gateway: Sequence[str] = ()
    children: Sequence[str] = ()
    interface: str = "lo"
    plant_options: Sequence[str] = ()
    cloud: str = "alibaba"
    route: str = ""
    identity: str = "password"
    key_algorithm: str = "ec-p256"
    speaks: bool = False
    commanded: bool = False
    broker_prefix: Sequence[str] = ()
    broker: SiteBroker | None = None
    policies: Sequence[Path] = (POLICY,)
    bus: str = ""
    private_bus: PrivateBus | None = None
    plant: dict[str, Any] = field(default_factory=dict)
    daemon: Running | None = None
    _serials: dict[str, str] = field(default_factory=dict)
    _simulator: Running | None = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Site]:
        """Start bus, broker and plant, and write the configuration; stop all at the end."""
        async with contextlib.AsyncExitStack() as stack:
            bus = stack.enter_context(PrivateBus(*self.policies))
            self.bus, self.private_bus = bus.address, bus
            if self.speaks:
                broker = SiteBroker(self.directory / "broker", self.broker_prefix)
                self.broker = await stack.enter_async_context(broker)
            try:
                await self._start_plant()
                self.configure(config(self), rules(self))
                yield self
            finally:
                await self.stop()
                await end(self._simulator)

    def configure(self, text: str, rule: str) -> None:
        """Write gatewayd's configuration and its rules."""
        (self.directory / "rules.d").mkdir(exist_ok=True)
        (self.directory / "gatewayd.toml").write_text(text)
        (self.directory / "rules.d" / "10-sensors.toml").write_text(rule)

    async def start(self, module: str = "gatewayd", *arguments: str) -> None:
        """Start gatewayd, and return when it owns its name."""
        await self.launch(module, *arguments)
        await self.until(self._serves, "gatewayd to serve")

    async def launch(self, module: str = "gatewayd", *arguments: str) -> None:
        """Start gatewayd; its log goes to gatewayd.log."""
        with (self.directory / "gatewayd.log").open("ab") as log:
            given = (*arguments, "--config", str(self.directory / "gatewayd.toml"))
            self.daemon = await Site.start_python(self.gateway, module, given, log.fileno())

    async def stop(self) -> int | None:
        """Stop gatewayd as systemd does; return its exit status."""
        daemon, self.daemon = self.daemon, None
        return await end(daemon)

    def log(self) -> str:
        """Return the log of gatewayd so far."""
        return (self.directory / "gatewayd.log").read_text()

    async def busctl(self, *arguments: str) -> str:
        """Run busctl on the site's bus; return what it prints.  Raises RuntimeError."""
        return await run("busctl", f"--address={self.bus}", *arguments)

    async def call(self, method: str, signature: str = "", *arguments: str) -> Any:  # noqa: ANN401  # JSON
        """Call a method of the Manager; return its first result.  Raises RuntimeError."""
        call = ("--json=short", "call", *MANAGER, method)
        text = await self.busctl(*call, *([signature, *arguments] if signature else []))
        return json.loads(text)["data"][0] if text else None

    async def authority(self, cloud: str, method: str, *arguments: str) -> Any:  # noqa: ANN401  # JSON
        """Call a method of a cloud's device CA; return its result.  Raises RuntimeError."""
        target = (MANAGER[0], f"{MANAGER[1]}/provider/{cloud}", "org.gatewayd1.Authority")
        text = await self.busctl("--json=short", "call", *target, method, *arguments)
        return json.loads(text)["data"][0] if text else None

    async def enrol(self, cloud: str, **how: object) -> None:
        """Make a device CA and have the platform verify it, as an operator does.

        how: more arguments of the verb "upload".
        """
        named = ("common-name", "s", f"{cloud} devices")
        options = ("2", *named, "algorithm", "s", self.key_algorithm)
        made = await self.authority(cloud, "Make", "a{sv}", *options)
        code = await self.ask(do="upload", instance=cloud, pem=made, **how)
        proof = await self.authority(cloud, "Prove", "s", code)
        await self.ask(do="verify", instance=cloud, pem=proof)

    async def certify(self) -> None:
        """Make the device CA of a broker, and give that to it, as an operator does."""
        made = ("2", "common-name", "s", "plant devices", "algorithm", "s", self.key_algorithm)
        pem = await self.authority("plant", "Make", "a{sv}", *made)
        await self.revoke(pem)

    async def revoke(self, pem: str = "") -> None:
        """Give the broker the list of what its CA has revoked.  pem: the CA; "" for that of now."""
        shown = pem or (await self.authority("plant", "Show"))["Certificate"]["data"]
        listed = await self.authority("plant", "ListRevoked")
        await self.ask(do="trust", pem=shown, revoked=listed)

    async def say(self, child: str, **values: float) -> None:
        """Have a child publish values to the site's broker.  Raises OSError."""
        assert self.broker is not None, "the site has one"
        await self.broker.publish(child, values)

    async def devices(self) -> dict[str, tuple[str, str]]:
        """Return the ID and the state of each child on D-Bus."""
        rows = await self.call("ListDevices")
        return {await self._serial(row[0]): (row[0], row[1]) for row in rows}

    async def describe(self, child: str) -> dict[str, Any]:
        """Return all properties of a child on D-Bus."""
        device, _ = (await self.devices())[child]
        return await self._describe(device)

    async def _describe(self, device: str) -> dict[str, Any]:
        properties = await self.call("DescribeDevice", "s", device)
        return {key: value["data"] for key, value in properties.items()}

    async def _serial(self, device: str) -> str:
        """Return the serial number of a device, from its identity on D-Bus."""
        if device not in self._serials:
            identity = (await self._describe(device))["Identity"]
            self._serials[device] = str(identity).rpartition(" ")[2].upper()
        return self._serials[device]

    async def ask(self, **request: object) -> Any:  # noqa: ANN401  # JSON
        """Send the plant a request: a verb of simulator/control.py."""
        return await ask(self.directory / "control", **request)

    async def until(self, holds: Any, what: str) -> Any:  # noqa: ANN401  # whatever it returns
        """Return what `await holds()` returns once that is true.  Raises TimeoutError."""
        pause = POLL
        try:
            async with asyncio.timeout(PATIENCE):
                while not (result := await holds()):
                    await asyncio.sleep(pause)
                    pause = min(pause * SLOWER, SELDOM)
                return result
        except TimeoutError:
            raise TimeoutError(
                f"Timed out waiting for {what}.  The log ends:\n{self._tail()}"
            ) from None

    async def wait_for(self, child: str, state: str) -> None:
        """Return when D-Bus shows the child in this state.  Raises TimeoutError."""

        async def reached() -> bool:
            return (await self.devices()).get(child, ("", ""))[1] == state

        await self.until(reached, f"{child} to be {state}")

    async def ledger(self, child: str) -> dict[str, Any]:
        """Return the cloud's counts of a child."""
        return dict(await self.ask(do="ledger", child=child))

    async def _start_plant(self) -> None:
        options = ["--cloud", self.cloud, "--identity", self.identity, *self.plant_options]
        if self.route.startswith("sub-device"):
            options += ["--node", "sub-device"]
        self._simulator = await Site.start_python(
            self.children, "gatewayd.simulator", (str(self.directory), *options), None
        )
        facts = self.directory / "plant.json"

        async def ready() -> bool:
            return facts.exists()

        await self.until(ready, "the simulator to start")
        self.plant = json.loads(facts.read_text())

    async def _serves(self) -> bool:
        assert self.daemon is not None, "it was launched"
        if self.daemon.returncode is not None:
            raise RuntimeError(f"gatewayd ended:\n{self._tail()}")
        try:
            await self.busctl("get-property", *MANAGER, "State")
        except RuntimeError:
            return False
        return True

    def _tail(self) -> str:
        log = self.directory / "gatewayd.log"
        return "\n".join(log.read_text().splitlines()[-30:]) if log.exists() else "(no log)"


async def run(*command: str) -> str:
    """Run a program; return its output.  Raises RuntimeError with its error output."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    if process.returncode:
        raise RuntimeError(err.decode().strip() or f"{command[0]} ended with {process.returncode}")
    return out.decode().rstrip("\n")


async def end(process: Running | None) -> int | None:
    """Stop a process: SIGTERM, and SIGKILL after a while.  Return its exit status."""
    if process is None:
        return None
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(PATIENCE / 2):
                return await process.wait()
        except TimeoutError:
            process.kill()
    return await process.wait()
