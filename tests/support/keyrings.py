"""Keyrings to put secrets into: files, faulty ones, and a private Secret Service."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import secretstorage
from jeepney.io.blocking import open_dbus_connection  # type: ignore[import-untyped]  # it has none
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError
from keyrings.alt.file import EncryptedKeyring  # type: ignore[import-untyped]  # it has none

LEFT_OPEN = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""The backend leaves a connection open where the keyring is locked or gone."""

PASSWORD = "open-sesame"
TIMEOUT = 30.0

BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={directory}/bus</listen>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""
"""A session bus that starts no service by itself, for users of a booted system, too."""


class FileKeyring(EncryptedKeyring):  # type: ignore[misc]  # it has no types
    """A keyring in an encrypted file; locked while the file `opener` is not beside it."""

    @property
    def keyring_key(self) -> str:
        try:
            return Path(self.file_path).with_name("opener").read_text()
        except OSError:
            raise KeyringLocked("there is no opener") from None


class FaultyKeyring(KeyringBackend):  # type: ignore[misc]  # it has no types
    """A keyring in memory, with faults that a test switches on."""

    priority = 1
    entries: ClassVar[dict[tuple[str, str], str]] = {}
    raises: Exception | None = None
    waits: threading.Event | None = None
    forgets = False

    def get_password(self, service: str, username: str) -> str | None:
        self._fail()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._fail()
        if not self.forgets:
            self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._fail()
        if not self.forgets:
            del self.entries[service, username]

    def _fail(self) -> None:
        if self.waits is not None:
            assert self.waits.wait(TIMEOUT)
        if self.raises is not None:
            raise self.raises


LOCKABLE = "tests.support.keyrings.LockableKeyring"


class LockableKeyring(KeyringBackend):  # type: ignore[misc]  # it has no types
    """A keyring in a plain file; locked while a file with .locked after its name is there."""

    priority = 1
    file_path = ""

    def get_password(self, service: str, username: str) -> str | None:
        return self._entries().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        entries = {**self._entries(), f"{service} {username}": password}
        Path(self.file_path).write_text(json.dumps(entries))

    def delete_password(self, service: str, username: str) -> None:
        entries = self._entries()
        if entries.pop(f"{service} {username}", None) is None:
            raise PasswordDeleteError("it is not there")
        Path(self.file_path).write_text(json.dumps(entries))

    def _entries(self) -> dict[str, str]:
        if Path(f"{self.file_path}.locked").exists():
            raise KeyringLocked("it is locked")
        path = Path(self.file_path)
        return dict(json.loads(path.read_text())) if path.exists() else {}


class SecretService:
    """gnome-keyring on a private bus, without a display."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.address = f"unix:path={directory}/bus"
        self._bus: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run while the context lasts."""
        (self._directory / "bus.conf").write_text(BUS.format(directory=self._directory))
        self._bus = subprocess.Popen(
            ["dbus-daemon", "--nofork", f"--config-file={self._directory}/bus.conf"],
            stderr=subprocess.DEVNULL,
        )
        try:
            self.until((self._directory / "bus").exists)
            self.start()
            yield
        finally:
            self.stop()
            self._bus.kill()
            self._bus.wait()

    def start(self, password: str = PASSWORD) -> None:
        """Start the service, and unlock its keyring if this is the password."""
        own = {"HOME": "home", "XDG_DATA_HOME": "data", "XDG_RUNTIME_DIR": "run"}
        for name in own.values():
            (self._directory / name).mkdir(mode=0o700, exist_ok=True)
        environ = {name: str(self._directory / path) for name, path in own.items()}
        self._daemon = subprocess.Popen(
            ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
            env=os.environ | environ | {"DBUS_SESSION_BUS_ADDRESS": self.address},
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._daemon.stdin is not None
        self._daemon.stdin.write(password.encode())
        self._daemon.stdin.close()
        self.until(self._serves)

    def stop(self) -> None:
        """Kill the service."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
        self._daemon = None

    def signal(self, number: int) -> None:
        """Send the service a signal, as SIGSTOP."""
        assert self._daemon is not None
        self._daemon.send_signal(number)

    def lock(self) -> None:
        """Lock its keyring."""
        with contextlib.closing(secretstorage.dbus_init()) as connection:
            secretstorage.get_default_collection(connection).lock()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition is true."""
        end = time.monotonic() + TIMEOUT
        while not holds():
            assert time.monotonic() < end, "timed out"
            time.sleep(0.01)

    def _serves(self) -> bool:
        try:
            connection = open_dbus_connection(self.address)
        except OSError:  # the socket is there, without a listener yet
            return False
        with contextlib.closing(connection):
            return bool(secretstorage.check_service_availability(connection))


@pytest.fixture
def secret_service(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SecretService]:
    """A Secret Service that every backend in this process finds."""
    service = SecretService(tmp_path_factory.mktemp("secrets"))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", service.address)
    with service.running():
        yield service
    gc.collect()  # what was left open is closed here, where it does not disturb a test
