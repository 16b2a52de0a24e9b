"""What children say, through gatewayd and through mosquitto's own bridge, in one run.

Both have the same near broker with the same settings, a TLS connection for each child to the same
far broker, and the same load: QoS 1, 200 bytes, by plain TCP.  gatewayd is a client of that broker,
over a Unix socket, as of its own; the bridge is a part of it.  gatewayd stores each message first;
the bridge stores none.  The processor time is that of all threads of the near broker, and of
gatewayd, until the last message has arrived at the far one, and SETTLE longer for what is owed
then.

A process that wakes up for several messages at a time takes less for each.  How often that is
depends on what else the machine does, so the wake-ups of a message are shown: where nothing is
handled together, a bridge has two, for the message and for its acknowledgement.  Compare ratios
only between runs where these are alike.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gatewayd.simulator.pki import LIFE, localhost, make_ca
from script.benchmarks.message_rows import fill, measure_rows
from script.benchmarks.mosquitto import (
    BRIDGE,
    SOCKET,
    TLS,
    Broker,
    Load,
    MqttClient,
    free_port,
)
from script.benchmarks.process import cpu, memory, wakes
from script.benchmarks.table import Figure

RATE, SECONDS = 500.0, 8.0
SETTLE = 1.5
"""Seconds in which what is owed at the end is done: acknowledgements, and the deletes."""
SLOW, FEW = 10.0, 80
BURST = 16_000
REPLAYED = 100_000
DELAYS = (0.005, 0.02)
"""Seconds for which gatewayd waits for more messages before it writes them."""

# Budgets.
CPU_RATIO = 3.0
TIME_RATIO = 4.0
SYNCS_RATIO = 0.9
BYTES_SLOW, BYTES_FAST = 16_000, 5_000
REPLAY_SECONDS, LIVE_LATENCY = 40.0, 2_000.0
MEMORY = 60.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one way of messages took.

    cpu: microseconds a message of near broker and gatewayd; wakes: how often these woke up for it.
    burst: seconds.
    written, commits: bytes a message and commits a second at the usual rate.
    """

    cpu: float
    wakes: float
    median: float
    late: float
    burst: float
    slow: float = 0.0
    written: float = 0.0
    written_slow: float = 0.0
    commits: float = 0.0
    memory: float = 0.0
    out_of_order: int = 0


async def measure(number: int) -> list[Figure]:
    """Measure with so many children.  Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="gatewayd-bench-") as directory:
        top = Path(directory)
        children = [f"child-{n:012x}" for n in range(number)]
        async with _far_broker(top) as (far, tls_port):
            bridge = await _bridge(top / "bridge", far, tls_port, children)
            ways = {}
            for delay in DELAYS:
                way = Way(top / f"delay-{delay}", far, tls_port, top / "ca.pem", children, delay)
                ways[delay] = await way.measure()
            replay = Way(top / "replay", far, tls_port, top / "ca.pem", children, DELAYS[0])
            seconds, live = await replay.replay()
        rows = await measure_rows(top / "rows", children)
    return [*_figures(number, bridge, ways), *_replay_figures(seconds, live), *rows]


@asynccontextmanager
async def _far_broker(top: Path) -> AsyncIterator[tuple[Broker, int]]:
    now, tls_port = datetime.now(UTC), free_port()
    authority = make_ca("bench", now - LIFE, now + LIFE)
    far = top / "far"
    far.mkdir()
    localhost(authority, now).write(far)
    (top / "ca.pem").write_text(authority.pem)
    async with Broker(far, TLS.format(tls_port=tls_port, directory=far)) as broker:
        yield broker, tls_port


async def _bridge(directory: Path, far: Broker, tls_port: int, children: Sequence[str]) -> Measured:
    """Measure mosquitto's own bridge."""
    ca_file = directory.parent / "ca.pem"
    lines = [BRIDGE.format(child=c, port=tls_port, ca_file=ca_file) for c in children]
    async with Broker(directory, "".join(lines)) as near, _load(near, far, children) as load:
        await load.say(len(children), RATE)
        used, wakes, _ = await _usual(load, near.pid)
        median, late = load.arrivals.quantile(0.5), load.arrivals.quantile(0.99)
        return Measured(used * 1e6, wakes, median, late, await load.say(BURST, 0))


async def _usual(load: Load, *processes: int) -> tuple[float, float, float]:
    """Let children speak at the usual rate.

    Returns what these processes took for a message: seconds of processor time, wake-ups, and bytes
    that they had written to the disk.
    """
    load.arrivals.latencies.clear()
    count = int(RATE * SECONDS)
    before = [(cpu(pid), wakes(pid), _written(pid)) for pid in processes]
    await load.say(count, RATE)
    await asyncio.sleep(SETTLE)
    after = [(cpu(pid), wakes(pid), _written(pid)) for pid in processes]
    used, woken, written = (
        (sum(column) - sum(earlier)) / count
        for column, earlier in zip(zip(*after, strict=True), zip(*before, strict=True), strict=True)
    )
    return used, woken, written


@asynccontextmanager
async def _load(near: Broker, far: Broker, children: Sequence[str]) -> AsyncIterator[Load]:
    clients = {child: await MqttClient.open(near.port, child) for child in children}
    async with Load(clients, await MqttClient.open(far.port, "watch")) as load:
        yield load


@dataclass(frozen=True, slots=True)
class Way:
    """gatewayd's way of messages.  delay: its commit_delay."""

    directory: Path
    far: Broker
    tls_port: int
    ca_file: Path
    children: Sequence[str]
    delay: float

    async def measure(self) -> Measured:
        """Measure it."""
        self.directory.mkdir()
        async with (
            self._near() as near,
            self._relay() as process,
            _load(near, self.far, self.children) as load,
        ):
            await load.say(len(self.children), RATE)
            commits = await self._commits(process)
            used, woken, fast = await _usual(load, near.pid, process.pid)
            commits = await self._commits(process) - commits
            median, late = load.arrivals.quantile(0.5), load.arrivals.quantile(0.99)
            burst = await load.say(BURST, 0)
            written = _written(process.pid)
            load.arrivals.latencies.clear()
            await load.say(FEW, SLOW)
            few, held = (_written(process.pid) - written) / FEW, memory(process.pid).pss
            slow, late_ones = load.arrivals.quantile(0.99), load.arrivals.late
            await self._end(process)
        each = commits / SECONDS
        return Measured(
            used * 1e6, woken, median, late, burst, slow, fast, few, each, held, late_ones
        )

    async def replay(self) -> tuple[float, float]:
        """Return the seconds that what has waited takes, and the latency of live ones beside it."""
        self.directory.mkdir()
        await asyncio.to_thread(fill, self.directory / "state", self.children, REPLAYED)
        async with (
            self._near() as near,
            _load(near, self.far, self.children) as load,
            self._relay() as process,
        ):
            began = asyncio.get_running_loop().time()
            await load.say(1000, 200.0)
            await load.until(REPLAYED + 1000)
            seconds = asyncio.get_running_loop().time() - began
            await self._end(process)
        return seconds, load.arrivals.quantile(0.99)

    def _near(self) -> Broker:
        """Return the broker of the children, which gatewayd reaches as its own: by a socket."""
        return Broker(self.directory / "near", SOCKET.format(path=self._socket))

    @property
    def _socket(self) -> Path:
        return self.directory / "broker.socket"

    @asynccontextmanager
    async def _relay(self) -> AsyncIterator[asyncio.subprocess.Process]:
        facts = {
            "children": self.children,
            "directory": str(self.directory / "state"),
            "near_socket": str(self._socket),
            "far_port": self.tls_port,
            "ca_file": str(self.ca_file),
            "commit_delay": self.delay,
        }
        path = self.directory / "facts.json"
        path.write_text(json.dumps(facts))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "script.benchmarks.message_relay", str(path),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None, "it is a pipe"
            if not await process.stdout.readline():
                raise RuntimeError("the relay does not start")
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _commits(self, process: asyncio.subprocess.Process) -> int:
        """Return how often the relay has committed."""
        assert process.stdout is not None, "it is a pipe"
        process.send_signal(signal.SIGUSR1)
        return int(await process.stdout.readline())

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Stop the relay in good order."""
        process.send_signal(signal.SIGTERM)
        if await process.wait():
            raise RuntimeError("the relay failed")


def _written(pid: int) -> int:
    """Return the bytes that a process has had written to the disk (proc_pid_io(5))."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def _figures(number: int, bridge: Measured, ways: dict[float, Measured]) -> list[Figure]:
    what = f"messages of {number} children, {RATE:.0f}/s"
    found = [
        Figure(f"{what}: mosquitto's bridge, CPU each", bridge.cpu, "µs",
               note=_usual_note(bridge)),
        Figure(f"{BURST} at once: mosquitto's bridge", BURST / bridge.burst, "/s"),
    ]  # fmt: skip
    for delay, way in ways.items():
        by = f"commit_delay {delay * 1000:.0f} ms"
        found += [
            Figure(f"{what}: {by}, CPU each", way.cpu, "µs", note=_usual_note(way)),
            Figure("  of the bridge's", way.cpu / bridge.cpu, "times", CPU_RATIO),
            Figure("  commits a second", way.commits, "/s", SYNCS_RATIO / delay),
            Figure("  written, each", way.written, "B", BYTES_FAST),
            Figure(f"  written, each, at {SLOW:.0f}/s", way.written_slow, "B", BYTES_SLOW),
            Figure(f"  latency p99 at {SLOW:.0f}/s", way.slow, "ms"),
            Figure(f"  {BURST} at once", BURST / way.burst, "/s"),
            Figure("  time of the bridge's", way.burst / bridge.burst, "times", TIME_RATIO),
            Figure("  memory, PSS", way.memory, "MB", MEMORY),
            Figure("  out of order", way.out_of_order, "", 0),
        ]
    return found


def _usual_note(way: Measured) -> str:
    return f"latency {way.median:.1f} ms, p99 {way.late:.1f} ms; {way.wakes:.1f} wake-ups each"


def _replay_figures(seconds: float, live: float) -> list[Figure]:
    return [
        Figure(f"{REPLAYED} that have waited", seconds, "s", REPLAY_SECONDS),
        Figure("  latency p99 of live ones beside them", live, "ms", LIVE_LATENCY),
    ]
