"""A real tinyproxy on the loopback interface."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.mosquitto import free_port

PROGRAM = shutil.which("tinyproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "tinyproxy"
PATIENCE = 60.0


@dataclass(frozen=True)
class Tinyproxy:
    """A proxy that runs.  directory: with its log."""

    directory: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.directory / "log").read_text(errors="replace")
        return ""


@contextlib.contextmanager
def tinyproxy(
    lines: Sequence[str] = (),
    *,
    allowed: Sequence[str] = (),
    address: str = "127.0.0.1",
    inside: Sequence[str] = (),
) -> Iterator[Tinyproxy]:
    """Run a proxy.

    lines: of its configuration.  allowed: the only hosts, regular expressions; all for none.
    address: it listens on.  inside: a command before it, as "ip netns exec NAME".
    """
    with tempfile.TemporaryDirectory(prefix="tp", dir="/tmp") as name:
        proxy = Tinyproxy(Path(name), free_port())
        text = [
            f"Port {proxy.port}", f"Listen {address}", f'LogFile "{name}/log"', "LogLevel Info",
            "MaxClients 200", "Timeout 600", *lines,
        ]  # fmt: skip
        if allowed:
            (proxy.directory / "allowed").write_text("\n".join(allowed) + "\n")
            text += [f'Filter "{name}/allowed"', "FilterDefaultDeny Yes"]
        (proxy.directory / "conf").write_text("\n".join(text) + "\n")
        process = subprocess.Popen([*inside, PROGRAM, "-d", "-c", f"{name}/conf"])
        try:
            _await(proxy, process, address, inside)
            yield proxy
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
                process.wait()


def _await(
    proxy: Tinyproxy, process: subprocess.Popen[bytes], address: str, inside: Sequence[str]
) -> None:
    end = time.monotonic() + PATIENCE
    while not _accepts(proxy, address, inside):
        assert process.poll() is None, proxy.log()
        assert time.monotonic() < end, proxy.log()
        time.sleep(0.02)


def _accepts(proxy: Tinyproxy, address: str, inside: Sequence[str]) -> bool:
    if inside:
        return "Accepting connections" in proxy.log()
    with contextlib.suppress(OSError):
        socket.create_connection((address, proxy.port), 1).close()
        return True
    return False
