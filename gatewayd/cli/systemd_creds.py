"""The key of a vault as a systemd credential: encrypted for this machine, passed to the service.

systemd-creds(1) encrypts and decrypts.  The key goes to it and back through pipes, and is nowhere
else in the clear.
"""

from __future__ import annotations

import grp
import os
import re
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from gatewayd.errors import GatewayError
from gatewayd.runtime.private_files import sync_directory, write_private
from gatewayd.secretstore.keyslots.slots import ENCRYPTED
from gatewayd.settings import grammar

TIMEOUT = 60.0
"""Seconds that a TPM may take to encrypt or decrypt a key."""

WITH_KEY = ("host+tpm2", "tpm2", "host")
"""What a credential may be encrypted with: words of `systemd-creds --with-key=`."""

SERVICE = "gatewayd.service"
UNITS = tuple(
    Path(f"/{top}/systemd/system") for top in ("etc", "run", "usr/local/lib", "usr/lib", "lib")
)
_IMPORTED = re.compile(r"^ImportCredential=(\S+)$", re.MULTILINE)
HEAD = "# Made by gatewayctl vault init.\n[Service]\n"


@dataclass(frozen=True, slots=True)
class SystemdCredentials:
    """The encrypted credentials of this machine, and the drop-ins that pass them to the service.

    directory: of encrypted credentials.  units: the directories where systemd finds units, in
    order of precedence; drop-ins are written into the first.  program: systemd-creds, and options
    for each of its commands.
    """

    directory: Path = Path("/etc/credstore.encrypted")
    units: Sequence[Path] = UNITS
    program: Sequence[str] = ("systemd-creds",)

    def file(self, name: str) -> Path:
        """Return the path of an encrypted credential."""
        return self.directory / name

    def decrypt(self, name: str) -> bytes:
        """Return the content of an encrypted credential.  Raises GatewayError."""
        try:
            encrypted = self.file(name).read_bytes()
        except OSError as error:
            raise GatewayError(f"{self.file(name)} cannot be read: {error.strerror}") from error
        try:
            return self._run("decrypt", f"--name={name}", data=encrypted)
        except GatewayError as error:
            raise GatewayError(f"{self.file(name)} cannot be decrypted: {error}") from None

    def encrypt(self, name: str, secret: bytes, with_key: str = "") -> bytes:
        """Return an encrypted credential, after a trial decryption.  Raises GatewayError.

        with_key: one of WITH_KEY; "" for the best that this machine has.
        """
        chosen = with_key or ("host+tpm2" if self._has_tpm() else "host")
        try:
            encrypted = self._run("encrypt", f"--name={name}", f"--with-key={chosen}", data=secret)
        except GatewayError as error:
            if "tpm2" not in with_key:
                raise
            raise GatewayError(
                f"The TPM of this machine cannot be used: {error}. Use --protect host to do without"
            ) from None
        if self._run("decrypt", f"--name={name}", data=encrypted) != secret:
            raise GatewayError("systemd-creds failed: it did not decrypt what it had encrypted")
        return encrypted

    def encrypted(self, name: str) -> bytes:
        """Return an encrypted credential as it lies on the disk; b"" for none that can be read."""
        try:
            return self.file(name).read_bytes()
        except OSError:
            return b""

    def exists(self, name: str) -> bool:
        """Whether there is an encrypted credential; False where that may not be read."""
        try:
            return self.file(name).exists()
        except OSError:
            return False

    def write(self, name: str, encrypted: bytes) -> None:
        """Write an encrypted credential, completely or not at all.  Raises GatewayError."""
        _write(self.file(name), encrypted, 0o700)

    def create(self, name: str, encrypted: bytes) -> None:
        """Write a credential that does not exist, completely or not at all.  Raises GatewayError.

        Where another process has made one meanwhile, that one stays.
        """
        new = self.file(f"{name}.{os.getpid()}.new")
        _write(new, encrypted, 0o700)
        try:
            os.link(new, self.file(name))
            sync_directory(self.directory)
        except OSError as error:
            raise GatewayError(f"{self.file(name)} cannot be made: {error.strerror}") from error
        finally:
            new.unlink(missing_ok=True)

    def replace(self, name: str, other: str) -> None:
        """Rename another credential to this name, in place of the old one.  Raises GatewayError."""
        try:
            self.file(other).rename(self.file(name))
            sync_directory(self.directory)
        except OSError as error:
            raise GatewayError(f"{self.file(name)} cannot be replaced: {error.strerror}") from error

    def write_drop_in(self, name: str, text: str) -> Path:
        """Write a drop-in of the service; return its path.  Raises GatewayError."""
        path = self.units[0] / f"{SERVICE}.d" / name
        _write(path, text.encode(), 0o755)
        path.chmod(0o644)
        return path

    def is_loaded(self, name: str) -> bool:
        """Whether a unit file or drop-in of the service loads this credential already."""
        line = re.compile(rf"^LoadCredential(?:Encrypted)?={re.escape(name)}(?::|$)", re.MULTILINE)
        return any(line.search(text) for _, text in self._unit_files())

    def passed_by(self, name: str, known: Collection[str]) -> Path | None:
        """Return the unit file that passes this credential from elsewhere; None for none.

        known: the places from which it comes otherwise.
        """
        line = re.compile(
            rf"^(?:Load|Set)Credential(?:Encrypted)?={re.escape(name)}(?::(.*))?$", re.MULTILINE
        )
        for path, text in self._unit_files():
            sources = [found[1] for found in line.finditer(text)]
            if any(source not in known for source in sources):
                return path
            if any(fnmatch(name, glob) for glob in _IMPORTED.findall(text)):
                return path
        return None

    def _unit_files(self) -> Iterator[tuple[Path, str]]:
        """Yield the unit file in force and all its drop-ins, each with its text."""
        unit = [units / SERVICE for units in self.units if (units / SERVICE).exists()][:1]
        drop_ins = [file for units in self.units for file in units.glob(f"{SERVICE}.d/*.conf")]
        for path in (*unit, *drop_ins):
            yield path, path.read_text(errors="replace")

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
            done = subprocess.run(  # noqa: S603  # a fixed program, arguments apart
                words, input=data, capture_output=True, timeout=TIMEOUT, check=False
            )
        except OSError as error:
            raise GatewayError(f"{words[0]} cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired:
            raise GatewayError(f"{words[0]} timed out after {TIMEOUT:g} s") from None
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise GatewayError(lines[-1] if lines else f"{words[0]} failed")
        return done.stdout


@contextmanager
def credentials_directory(name: str, secret: bytes, encrypted: bytes = b"") -> Iterator[Path]:
    """Yield a directory for $CREDENTIALS_DIRECTORY; the secret in it is only in memory.

    encrypted: as it lies on the disk.
    """
    opened = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        os.write(opened, secret)
        with tempfile.TemporaryDirectory(prefix="gatewayctl-") as directory:
            (Path(directory) / name).symlink_to(f"/proc/{os.getpid()}/fd/{opened}")
            (Path(directory) / f"{name}{ENCRYPTED}").write_bytes(encrypted)
            yield Path(directory)
    finally:
        os.close(opened)


def credential_drop_in(name: str, file: Path) -> str:
    """Return the drop-in that passes an encrypted credential to the service.

    Raises GatewayError where that is no name of a credential.
    """
    if rule := grammar.credential_name(name):
        raise GatewayError(f"The name of the credential of the vault {rule}")
    return (
        f"{HEAD}LoadCredentialEncrypted={name}:{file}\n"
        f"LoadCredential={name}{ENCRYPTED}:{file}\nSetCredential={name}{ENCRYPTED}:none\n"
    )


def tpm_drop_in(tcti: str) -> str:
    """Return the drop-in that lets the service use a TPM; "" where the TPM is not a device.

    tcti: as tpm2-tss writes it, "device:/dev/tpmrm0".  Raises GatewayError where it is not one:
    what root writes here takes effect in the service.
    """
    if rule := grammar.tcti(tcti):
        raise GatewayError(f"The TCTI of the vault {rule}")
    if grammar.emulated(tcti):
        return ""
    device = tcti.removeprefix("device:")
    group = _group_of(Path(device))
    groups = f"SupplementaryGroups={group}\n" if group else ""
    return f"{HEAD}BindPaths=-{device}\nDeviceAllow={device} rw\n{groups}"


def _group_of(device: Path) -> str:
    """Return the group that owns a device; "" if that is root's, or there is no device."""
    try:
        number = device.stat().st_gid
        return grp.getgrgid(number).gr_name if number else ""
    except (OSError, KeyError):
        return ""


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file; create its directory with this mode if there is none."""
    try:
        path.parent.mkdir(mode=mode, parents=True, exist_ok=True)
        write_private(path, content)
        sync_directory(path.parent.parent)
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}") from error
