"""Real members of etcd on the loopback interface, by TLS, with users where a test wants them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPSConnection
from pathlib import Path

from gatewayd.simulator import pki
from gatewayd.site.settings import SiteSettings
from tests.support.mosquitto import free_port
from tests.support.simulated_ca import AUTHORITY, NOW

PROGRAM = shutil.which("etcd") or "etcd"
CONTROL = shutil.which("etcdctl") or "etcdctl"
PATIENCE = 60.0
PASSWORD = "correct horse"  # of a server that lives for one test
OID_COMMON_NAME, OID_ORGANIZATION = "2.5.4.3", "2.5.4.10"


class Member:
    """One process of etcd.  lines: of its command, beside those of every member."""

    def __init__(self, directory: Path, name: str, peer: int) -> None:
        self.name, self.directory, self.peer = name, directory / name, peer
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.directory.mkdir()

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self, cluster: Cluster) -> None:
        """Start the process, new or again.  Returns at once."""
        peer, client = f"http://127.0.0.1:{self.peer}", self.endpoint
        folder = cluster.directory
        options = {
            "name": self.name,
            "data-dir": str(self.directory / "data"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": cluster.initial,
            "heartbeat-interval": "100",
            "election-timeout": "1000",
            "cert-file": str(folder / "server.pem"),
            "key-file": str(folder / "server.key"),
            **cluster.options,
        }
        command = [PROGRAM, *(f"--{key}={value}" for key, value in options.items())]
        log = (self.directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def signal(self, number: int) -> None:
        """Send a signal, as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self) -> None:
        """End the process, whether it is stopped or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-4000:]


class Cluster:
    """Members of one etcd.

    options: of the command of each, beside the usual ones.
    """

    def __init__(self, directory: Path, count: int, options: Mapping[str, str]) -> None:
        self.directory, self.options = directory, dict(options)
        if "client-cert-auth" in options:
            self.options["trusted-ca-file"] = str(directory / "ca.pem")
        keyed = AUTHORITY.issue(
            ["localhost"], ["127.0.0.1"], NOW - pki.LIFE, NOW + pki.LIFE, also_client=True
        )
        keyed.write(directory)
        for name, part in (("client", OID_ORGANIZATION), ("named", OID_COMMON_NAME)):
            client = AUTHORITY.issue_client([(part, "gateway")], NOW - pki.LIFE, NOW + pki.LIFE)
            (directory / f"{name}.pem").write_text(client.certificate_pem)
            (directory / f"{name}.key").write_text(client.key_pem)
            (directory / f"{name}.key").chmod(0o600)
        (directory / "password").write_text(PASSWORD)
        (directory / "password").chmod(0o600)
        self.members = [Member(directory, f"m{n}", free_port()) for n in range(count)]
        self.initial = ",".join(f"{one.name}=http://127.0.0.1:{one.peer}" for one in self.members)

    def start(self) -> None:
        """Start all members, and return when they have a leader.  Blocks."""
        for member in self.members:
            member.start(self)
        self.wait()

    def restart(self) -> None:
        """Kill all members and start them again.  Blocks."""
        self.end()
        self.start()

    def wait(self) -> None:
        """Return when the members that run have a leader.  Blocks."""
        end = time.monotonic() + PATIENCE
        while not all("is healthy" in self._health(one) for one in self.members if one._process):
            assert time.monotonic() < end, [one.log() for one in self.members]
            time.sleep(0.05)

    def _health(self, member: Member) -> str:
        return self.control("endpoint", "health", member=member, check=False)

    def control(
        self, *words: str, member: Member | None = None, check: bool = True, user: str = ""
    ) -> str:
        """Run etcdctl, and return what it prints.  user: who, with the password of the test."""
        command = [
            CONTROL,
            *words,
            f"--endpoints={(member or self.members[0]).endpoint}",
            f"--cacert={self.directory / 'ca.pem'}",
            f"--cert={self.directory / 'client.pem'}",
            f"--key={self.directory / 'client.key'}",
            *([f"--user={user}:{PASSWORD}"] if user else []),
        ]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout + done.stderr

    def leader(self) -> Member:
        """Return the member that leads.  Blocks."""
        end = time.monotonic() + PATIENCE
        while True:
            for member in self.members:
                line = self.control("endpoint", "status", member=member, check=False)
                if len(fields := line.split(", ")) > 4 and fields[4] == "true":
                    return member
            assert time.monotonic() < end
            time.sleep(0.05)

    def count(self, name: str) -> int:
        """Return what the first member has counted by a metric, whose line begins so.  Blocks."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        context.load_cert_chain(self.directory / "client.pem", self.directory / "client.key")
        port = self.members[0].port
        asked = HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)
        with contextlib.closing(asked):
            asked.request("GET", "/metrics")
            lines = asked.getresponse().read().decode().splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name))

    def enable_users(self) -> None:
        """Have etcd ask for passwords: root may do everything, gateway what is below /gatewayd/."""
        for words in (
            ("user", "add", f"root:{PASSWORD}"),
            ("user", "grant-role", "root", "root"),
            ("user", "add", f"gateway:{PASSWORD}"),
            ("role", "add", "gatewayd"),
            ("role", "grant-permission", "gatewayd", "--prefix=true", "readwrite", "/gatewayd/"),
            ("user", "grant-role", "gateway", "gatewayd"),
            ("auth", "enable"),
        ):
            self.control(*words)

    def settings(self, **more: object) -> SiteSettings:
        """Return what a gateway has in [site]."""
        endpoints = tuple(one.endpoint for one in self.members)
        given = {"gateway": "gateway-a", "ca_file": self.directory / "ca.pem", **more}
        return SiteSettings(endpoints=endpoints, name="plant", **given)  # type: ignore[arg-type]  # a test's

    def end(self) -> None:
        """End all members."""
        for member in self.members:
            member.end()


@contextlib.contextmanager
def running_etcd(count: int = 1, options: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Yield so many members that have a leader."""
    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(Path(name), count, options or {})
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.end()


STOP, CONTINUE = signal.SIGSTOP, signal.SIGCONT
