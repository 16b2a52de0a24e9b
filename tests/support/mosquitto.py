"""A real mosquitto on the loopback interface: by port, by socket, with TLS and passwords."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PROGRAM = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "mosquitto"
PATIENCE = 60.0

COMMON = """\
per_listener_settings false
persistence true
persistence_location {directory}/
autosave_interval 1
max_inflight_messages 200
max_queued_messages 100000
log_dest file {directory}/log
log_type error
log_type warning
log_type notice
"""
"""As gatewayd's own broker has it."""


_PORTS = range(20_000, 32_000)  # below those that the kernel gives to clients
_CHANCE = random.SystemRandom()  # Hypothesis seeds the other, in each worker alike


def free_port() -> int:
    """Return a port of this machine that nothing listens on, and that no client gets."""
    while True:
        port = _CHANCE.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port


def password_line(user: str, password: str) -> str:
    """Return a line of a password file, as mosquitto_passwd(1) writes it."""
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"{user}:$7$101${b64encode(salt).decode()}${b64encode(digest).decode()}\n"


def end(process: subprocess.Popen[bytes]) -> None:
    """End a mosquitto in good order; kill it, and raise AssertionError, where it does not end.

    SIGTERM is sent each second: 2.0 forgets one that comes after its first listener is open and
    before its loop begins (main in src/mosquitto.c sets `run` in between).
    """
    for _ in range(int(PATIENCE)):
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
            return
    process.kill()
    process.wait()
    raise AssertionError("mosquitto did not end by SIGTERM")


class Mosquitto:
    """A broker with a directory of its own.

    lines: of its configuration, beside COMMON; {directory} and {port} stand for its own.
    users: passwords by user name; none lets everybody in.
    """

    def __init__(
        self, directory: Path, lines: Sequence[str] = (), users: Mapping[str, str] | None = None
    ) -> None:
        self.directory, self.port = directory, free_port()
        self.socket = directory / "socket"
        self._process: subprocess.Popen[bytes] | None = None
        text = [COMMON, f"user {'root' if os.geteuid() == 0 else 'mosquitto'}"]
        if users is None:
            text.append("allow_anonymous true")
        else:
            passwords = directory / "passwords"
            passwords.write_text("".join(password_line(*one) for one in users.items()))
            passwords.chmod(0o600)
            text += ["allow_anonymous false", f"password_file {passwords}"]
        text += lines or ["listener {port} 127.0.0.1"]
        content = "\n".join([*text, ""])
        self._text = content.replace("{directory}", str(directory)).replace(
            "{port}", str(self.port)
        )
        (directory / "mosquitto.conf").write_text(self._text)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return when it accepts connections.  Blocks."""
        self._process = subprocess.Popen([PROGRAM, "-c", self.directory / "mosquitto.conf"])
        end = time.monotonic() + PATIENCE
        while not self._accepts():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.01)

    def _accepts(self) -> bool:
        """Whether each of its listeners accepts connections."""
        try:
            if f"listener {self.port} " in self._text:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            if "listener 0 " in self._text:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(self.socket))
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Kill it, as the kernel does where memory is short."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        """Send it a signal, as SIGHUP, on which it reads its files again."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None:
            end(self._process)

    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.directory / "log").read_text(errors="replace")
        return ""


@contextlib.contextmanager
def mosquitto(
    lines: Sequence[str] = (), users: Mapping[str, str] | None = None
) -> Iterator[Mosquitto]:
    """Run a broker; the path of its directory leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="mq", dir="/tmp") as name:
        broker = Mosquitto(Path(name), lines, users)
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()
