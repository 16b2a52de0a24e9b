"""Real members of etcd, with certificates and users as the documents advise, to be tormented."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator import pki
from gatewayd.simulator.site import end, run
from script.soaking.site.events import ShardReader
from script.soaking.site.network import ETCD_PORT, SiteHost

PEERS, METRICS = 2380, 2381
USER, PASSWORD, ROOT = "gatewayd", "of-the-gateways", "of-root"
SITE = "soak"
PREFIX = f"/gatewayd/{SITE}/"
PATIENCE = 60.0
AGAIN = 0.5
"""Seconds until a watcher that ended is started again."""
ASK = 20.0
"""Seconds that a member has to answer what it counts."""
FSYNC, FSYNC_LIMITS = "etcd_disk_wal_fsync_duration_seconds", (0.004, 0.016, 0.064, 0.256)
"""A histogram that etcd has, and some of its limits."""
_ORGANIZATION = "2.5.4.10"  # etcd refuses a common name where it has users


@dataclass(slots=True)
class EtcdMember:
    """A member.  directory: for its data, on a disk whose fsync is real."""

    host: SiteHost
    directory: Path
    peers: str
    timing: Sequence[str]
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, with the data that it has."""
        own, files = self.host.lan, self.directory.parent
        both = (
            ("cert-file", "server.pem"),
            ("key-file", "server.key"),
            ("trusted-ca-file", "ca.pem"),
        )
        tls = [
            f"--{kind}{option}={files / name}" for kind in ("", "peer-") for option, name in both
        ]
        with (self.directory.parent / f"{self.host.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.host.inside, "etcd", "--name", self.host.name,
                "--data-dir", str(self.directory), *tls,
                "--client-cert-auth", "--peer-client-cert-auth",
                f"--listen-client-urls=https://{own}:{ETCD_PORT}",
                f"--advertise-client-urls=https://{own}:{ETCD_PORT}",
                f"--listen-peer-urls=https://{own}:{PEERS}",
                f"--initial-advertise-peer-urls=https://{own}:{PEERS}",
                f"--listen-metrics-urls=http://{own}:{METRICS}",
                "--initial-cluster", self.peers, "--initial-cluster-token", "soak",
                *self.timing,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    async def kill(self) -> None:
        """Kill it."""
        process, self.process = self.process, None
        assert process is not None, "it was started"
        process.kill()
        await process.wait()

    def pause(self) -> None:
        """Stop it."""
        assert self.process is not None, "it was started"
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on."""
        assert self.process is not None, "it was started"
        self.process.send_signal(signal.SIGCONT)

    async def figures(self) -> Mapping[str, float]:
        """Return what it counts, by name and labels, once it has started.  Raises OSError."""
        try:
            async with asyncio.timeout(ASK):
                while (text := await self._fetch()) is None:
                    await asyncio.sleep(AGAIN)
        except TimeoutError:
            raise OSError(f"{self.host.name} does not answer") from None
        rows = (row.rpartition(" ") for row in text.splitlines() if row[:1].isalpha())
        return {name: float(value) for name, _, value in rows}

    async def _fetch(self) -> str | None:
        """Return its metrics; None while it does not listen yet.  Raises OSError."""
        try:
            reader, writer = await asyncio.open_connection(self.host.lan, METRICS)
        except ConnectionRefusedError:
            return None
        try:
            writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            return (await reader.read()).decode().partition("\r\n\r\n")[2]
        finally:
            writer.transport.abort()

    def memory(self) -> int:
        """Return the bytes that are resident."""
        assert self.process is not None, "it was started"
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@dataclass(slots=True)
class EtcdCluster:
    """The members, by name.  shards: what they say of them."""

    directory: Path
    members: Mapping[str, EtcdMember]
    shards: ShardReader = field(default_factory=ShardReader)

    @property
    def endpoints(self) -> Sequence[str]:
        """What clients are configured with."""
        return [f"https://{one.host.lan}:{ETCD_PORT}" for one in self.members.values()]

    def write_client(self, directory: Path) -> None:
        """Write what a gateway needs: etcd-ca.pem, etcd.pem, etcd.key and etcd-password."""
        for source, name in (("ca.pem", "etcd-ca.pem"), ("client.pem", "etcd.pem")):
            (directory / name).write_text((self.directory / source).read_text())
        for name, text in (
            ("etcd.key", (self.directory / "client.key").read_text()),
            ("etcd-password", PASSWORD),
        ):
            (directory / name).touch(mode=0o600)
            (directory / name).write_text(text)

    async def control(self, *arguments: str, endpoints: Sequence[str] = ()) -> str:
        """Run etcdctl; return what it prints.  Raises RuntimeError."""
        return await run(*self._etcdctl(endpoints or self.endpoints), *arguments)

    def _etcdctl(self, endpoints: Sequence[str], *, user: str = "") -> Sequence[str]:
        files = self.directory
        return (
            "etcdctl", "--endpoints", ",".join(endpoints), "--cacert", str(files / "ca.pem"),
            "--cert", str(files / "client.pem"), "--key", str(files / "client.key"),
            *(("--user", user) if user else ()),
        )  # fmt: skip

    async def set_up(self) -> None:
        """Make the users, once all members answer."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.control("endpoint", "health")
                    break
                except RuntimeError:
                    await asyncio.sleep(AGAIN)
        for words in (
            f"user add root:{ROOT}", "user grant-role root root", "role add gatewayd",
            f"role grant-permission gatewayd --prefix=true readwrite {PREFIX}",
            f"user add {USER}:{PASSWORD}", f"user grant-role {USER} gatewayd", "auth enable",
        ):  # fmt: skip
            with contextlib.suppress(RuntimeError):  # the role root is there in some versions
                await self.control(*words.split())

    async def leader(self) -> str:
        """Return the name of the leader; "" where no member says that it is."""
        found = await asyncio.gather(
            *(one.figures() for one in self.members.values()), return_exceptions=True
        )
        for name, figures in zip(self.members, found, strict=True):
            if isinstance(figures, dict) and figures.get("etcd_server_is_leader"):
                return name
        return ""

    async def leader_changes(self, victims: Collection[str]) -> float:
        """Return how often members other than some saw another leader.  Raises OSError."""
        others = [one for name, one in self.members.items() if name not in victims]
        found = await asyncio.gather(*(one.figures() for one in others))
        return sum(figures.get("etcd_server_leader_changes_seen_total", 0.0) for figures in found)

    async def requests(self) -> float:
        """Return how many requests all members have answered.  Raises OSError."""
        found = await asyncio.gather(*(one.figures() for one in self.members.values()))
        handled = (
            count
            for figures in found
            for name, count in figures.items()
            if name.startswith("grpc_server_handled_total") and "etcdserverpb" in name
        )
        return sum(handled)

    def memory(self) -> int:
        """Return the resident bytes of the largest member that runs."""
        running = (one for one in self.members.values() if one.process is not None)
        return max((one.memory() for one in running), default=0)

    async def fsync(self) -> Sequence[tuple[float, float]]:
        """Return, for some times in seconds, the part of the log's fsyncs that took no longer."""
        found = await asyncio.gather(*(one.figures() for one in self.members.values()))
        total = sum(figures[f"{FSYNC}_count"] for figures in found)
        return [
            (limit, sum(one[f'{FSYNC}_bucket{{le="{limit}"}}'] for one in found) / max(total, 1))
            for limit in FSYNC_LIMITS
        ]

    # What the members say of shards.

    async def watch(self) -> None:
        """Watch all members, each by a process of its own, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in self.members.values():
                group.create_task(self._watch(one))

    async def _watch(self, member: EtcdMember) -> None:
        where = f"https://{member.host.lan}:{ETCD_PORT}"
        while True:
            command = self._etcdctl([where], user=f"root:{ROOT}")
            process = await asyncio.create_subprocess_exec(
                *command, "watch", "--prefix", f"{PREFIX}shard/", "-w", "json",
                "--rev", str(self.shards.revision + 1),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL, limit=1 << 26,
            )  # fmt: skip
            try:
                assert process.stdout is not None, "it was asked for"
                async for line in process.stdout:
                    self.shards.read(line, time.monotonic())
                await process.wait()
            finally:
                if process.returncode is None:
                    await end(process)
            await asyncio.sleep(AGAIN)


@asynccontextmanager
async def etcd_cluster(
    hosts: Sequence[SiteHost], directory: Path, timing: Sequence[str]
) -> AsyncIterator[EtcdCluster]:
    """Run a member on each host, until the block ends.  timing: further arguments."""
    await asyncio.to_thread(_write_certificates, hosts, directory)
    peers = ",".join(f"{host.name}=https://{host.lan}:{PEERS}" for host in hosts)
    members = {host.name: EtcdMember(host, directory / host.name, peers, timing) for host in hosts}
    cluster = EtcdCluster(directory, members)
    watching = None
    try:
        for member in members.values():
            await member.start()
        await cluster.set_up()
        watching = asyncio.create_task(cluster.watch())
        yield cluster
    finally:
        if watching is not None:
            await cancel_and_wait([watching])
        for member in members.values():
            if member.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    member.resume()
                await member.kill()


def _write_certificates(hosts: Sequence[SiteHost], directory: Path) -> None:
    directory.mkdir()
    now = datetime.now(UTC)
    first, last = now - pki.LIFE, now + pki.LIFE
    authority = pki.make_ca("etcd of the site", first, last)
    addresses = [host.lan for host in hosts]
    authority.issue(["etcd.example"], addresses, first, last, also_client=True).write(directory)
    client = authority.issue_client([(_ORGANIZATION, "gateways")], first, last)
    (directory / "client.pem").write_text(client.certificate_pem)
    (directory / "client.key").touch(mode=0o600)
    (directory / "client.key").write_text(client.key_pem)
