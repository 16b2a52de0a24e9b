"""The files by which gatewayd says who may use its broker, and how children reach it.

They lie in a directory that the broker's group can read, in memory.  Each is replaced as a whole,
and the password file last: its replacement is what systemd waits for, to have the broker read all
of them again (gatewayd-broker-access.path).  So no key is read with the certificate of another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gatewayd.messages.broker.settings import BrokerPlaces, BrokerSettings

PASSWORDS, ACCESS, LISTENERS, LIMIT = "passwords", "acl", "listeners.conf", "limit.json"
CERTIFICATE, KEY, AUTHORITY, REVOKED = "certificate.pem", "key.pem", "ca.pem", "revoked.pem"

MODE = 0o640
"""Of each file: the broker reads them as a member of their group."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What the listeners for children need, PEM.  revoked: a list of certificates."""

    certificate: str
    key: bytes
    authority: str
    revoked: bytes

    def contents(self) -> Mapping[str, bytes]:
        """Return the files by name."""
        return {
            CERTIFICATE: self.certificate.encode("ascii"),
            KEY: self.key,
            AUTHORITY: self.authority.encode("ascii"),
            REVOKED: self.revoked,
        }


def listeners(settings: BrokerSettings, directory: Path) -> str:
    """Return the part of mosquitto's configuration that depends on settings: the TLS listeners.

    mosquitto has no listener for passwords and certificates at once: use_identity_as_username
    refuses a password, and without it a certificate names no user.
    """
    certificates = [
        f"cafile {directory / AUTHORITY}",
        f"crlfile {directory / REVOKED}",
        "require_certificate true",
        "use_identity_as_username true",
    ]
    ways: tuple[tuple[int, list[str]], ...] = (
        (settings.port, []),
        (settings.certificate_port, certificates),
    )
    return "".join(
        "\n".join([*_listener(settings, port, address, directory), *more, "", ""])
        for port, more in ways
        if port
        for address in settings.addresses or ("",)
    )


def _listener(settings: BrokerSettings, port: int, address: str, directory: Path) -> Iterator[str]:
    yield f"listener {port} {address}".rstrip()
    yield "use_username_as_clientid true"
    yield f"max_connections {settings.connections}"
    yield f"certfile {directory / CERTIFICATE}"
    yield f"keyfile {directory / KEY}"
    yield "tls_version tlsv1.2"


def limit(settings: BrokerSettings) -> str:
    """Return what `connection_limit` reads."""
    return json.dumps({"ports": settings.ports, "connections": settings.connections_per_address})


class AccessDirectory:
    """The directory of these files.  Its methods block, and raise OSError."""

    def __init__(self, places: BrokerPlaces) -> None:
        self.path, self._copies = places.access, places.socket.parent

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Replace these files, and the password file, which is always among them, last."""
        for name, content in contents.items():
            if name != PASSWORDS:
                self._replace(name, content)
        self._replace(PASSWORDS, contents[PASSWORDS])

    def was_read(self) -> bool:
        """Whether the broker has read the password file since it was written.

        It has copied it before.  A clock of files is no finer than a tick, so within one the answer
        is no.
        """
        try:
            copied = (self._copies / PASSWORDS).stat().st_mtime_ns
            return copied > (self.path / PASSWORDS).stat().st_mtime_ns
        except OSError:
            return False

    def clear(self) -> None:
        """Remove all files, so that the broker stops; nothing where there is no directory."""
        for path in sorted(self.path.glob("*")):
            path.unlink(missing_ok=True)

    def _replace(self, name: str, content: bytes) -> None:
        """Write a new file, in the group of the directory, and give it the name."""
        path, unfinished = self.path / name, self.path / f".{name}.new"
        unfinished.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(unfinished, flags, MODE), "wb") as file:
            os.fchmod(file.fileno(), MODE)  # whatever the umask is
            file.write(content)
        unfinished.rename(path)
