"""The key of a vault as a systemd credential: sealed to this machine, and handed to the service.

systemd-creds(1) does the sealing.  The key goes to it and back through pipes, and lies nowhere
else in the clear.
"""

from __future__ import annotations

import grp
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gatewayd.errors import GatewayError
from gatewayd.runtime.sqlite import sync_directory, write_private

PATIENCE = 60.0
"""Seconds that a TPM may take to seal or to open a key."""

SEALINGS = ("host+tpm2", "tpm2", "host")
"""What a credential may be sealed by: words of `systemd-creds --with-key=`."""

SERVICE = "gatewayd.service"
UNITS = tuple(
    Path(f"/{top}/systemd/system") for top in ("etc", "run", "usr/local/lib", "usr/lib", "lib")
)
HEAD = "# Made by gatewayctl vault init.\n[Service]\n"


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that seals.

    credentials: directory of sealed credentials.  units: where systemd looks for units, the
    strongest first; drop-ins are written into the first.  program: systemd-creds, and options for
    each of its commands.
    """

    credentials: Path = Path("/etc/credstore.encrypted")
    units: Sequence[Path] = UNITS
    program: Sequence[str] = ("systemd-creds",)

    def file(self, name: str) -> Path:
        """Return where a sealed credential is."""
        return self.credentials / name

    def unseal(self, name: str) -> bytes:
        """Return what is in a sealed credential.  Raises GatewayError."""
        try:
            sealed = self.file(name).read_bytes()
        except OSError as error:
            raise GatewayError(f"{self.file(name)} cannot be read: {error.strerror}") from error
        try:
            return self._run("decrypt", f"--name={name}", data=sealed)
        except GatewayError as error:
            raise GatewayError(f"{self.file(name)} does not open: {error}") from None

    def seal(self, name: str, secret: bytes, sealing: str = "") -> bytes:
        """Return a sealed credential, which was seen to open.  Raises GatewayError.

        sealing: one of SEALINGS; "" for the best that this machine has.
        """
        by = sealing or ("host+tpm2" if self._has_tpm() else "host")
        sealed = self._run("encrypt", f"--name={name}", f"--with-key={by}", data=secret)
        if self._run("decrypt", f"--name={name}", data=sealed) != secret:
            raise GatewayError("systemd-creds does not give back what it has sealed")
        return sealed

    def has(self, name: str) -> bool:
        """Tell whether there is a sealed credential, as far as may be seen."""
        try:
            return self.file(name).exists()
        except OSError:
            return False

    def keep(self, name: str, sealed: bytes) -> None:
        """Put a sealed credential in its place, wholly or not at all.  Raises GatewayError."""
        _write(self.file(name), sealed, 0o700)

    def take(self, name: str, other: str) -> None:
        """Let another credential stand in the place of one.  Raises GatewayError."""
        try:
            self.file(other).rename(self.file(name))
            sync_directory(self.credentials)
        except OSError as error:
            raise GatewayError(f"{self.file(name)}: {error.strerror}") from error

    def drop_in(self, name: str, text: str) -> Path:
        """Write a drop-in of the service; return where.  Raises GatewayError."""
        path = self.units[0] / f"{SERVICE}.d" / name
        _write(path, text.encode(), 0o755)
        path.chmod(0o644)
        return path

    def loads(self, name: str) -> bool:
        """Tell whether the service is handed this credential already."""
        line = re.compile(rf"^LoadCredential(?:Encrypted)?={re.escape(name)}(?::|$)", re.MULTILINE)
        return any(line.search(text) for text in self._texts())

    def _texts(self) -> Iterator[str]:
        """Yield the unit in force, and all its drop-ins."""
        whole = [units / SERVICE for units in self.units if (units / SERVICE).exists()][:1]
        parts = [file for units in self.units for file in units.glob(f"{SERVICE}.d/*.conf")]
        for path in (*whole, *parts):
            yield path.read_text(errors="replace")

    def _has_tpm(self) -> bool:
        try:
            self._run("has-tpm2", "--quiet")
        except GatewayError:
            return False
        return True

    def _run(self, command: str, *options: str, data: bytes = b"") -> bytes:
        files = ("-", "-") if data else ()
        words = (*self.program, *options, command, *files)
        try:
            done = subprocess.run(  # noqa: S603  # a program of systemd's
                words, input=data, capture_output=True, timeout=PATIENCE, check=False
            )
        except OSError as error:
            raise GatewayError(f"{words[0]} cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired:
            raise GatewayError(f"{words[0]} does not answer") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise GatewayError(said[-1] if said else f"{words[0]} has failed")
        return done.stdout


@contextmanager
def handed_over(name: str, secret: bytes) -> Iterator[Path]:
    """Yield a directory as $CREDENTIALS_DIRECTORY is one; the secret in it is in memory alone."""
    opened = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        os.write(opened, secret)
        with tempfile.TemporaryDirectory(prefix="gatewayctl-") as directory:
            (Path(directory) / name).symlink_to(f"/proc/{os.getpid()}/fd/{opened}")
            yield Path(directory)
    finally:
        os.close(opened)


def for_credential(name: str, file: Path) -> str:
    """Return the drop-in that hands a sealed credential to the service."""
    return f"{HEAD}LoadCredentialEncrypted={name}:{file}\n"


def for_tpm(tcti: str) -> str:
    """Return the drop-in that lets the service use a TPM; "" where it is no device.

    tcti: as tpm2-tss writes it, "device:/dev/tpmrm0".
    """
    kind, _, device = tcti.partition(":")
    if kind != "device":
        return ""
    group = _group_of(Path(device))
    groups = f"SupplementaryGroups={group}\n" if group else ""
    return f"{HEAD}BindPaths=-{device}\nDeviceAllow={device} rw\n{groups}"


def _group_of(device: Path) -> str:
    """Return the group that may use a device; "" where only root may, or there is none."""
    try:
        number = device.stat().st_gid
        return grp.getgrgid(number).gr_name if number else ""
    except (OSError, KeyError):
        return ""


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file, in a directory that is made with this mode if there is none."""
    try:
        path.parent.mkdir(mode=mode, parents=True, exist_ok=True)
        write_private(path, content)
        sync_directory(path.parent.parent)
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}") from error
