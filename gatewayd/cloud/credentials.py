"""Secrets that an operator provides: systemd credentials, and files that only gatewayd may read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.settings.grammar import credential_name

MAX_BYTES = 4096

ReadSecret: TypeAlias = Callable[[str, Path | None], Secret]
"""Reads a credential by its name or, where that is "", a file.  Blocks; raises ConfigError."""


class ReadAnySecret(Protocol):
    """A ReadSecret that also reads passphrases, to which the blanks at their ends belong."""

    def __call__(
        self, credential: str, file: Path | None, /, *, passphrase: bool = False
    ) -> Secret: ...


def credentials_directory(environ: Mapping[str, str]) -> Path | None:
    """Return the directory of systemd's credentials; None where the service has none."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    return Path(directory) if directory else None


class GivenSecret:
    """A secret that an operator gives, which is read again whenever it may have been replaced.

    read_secret: called off the event loop, with the name of a credential, or a file.
    """

    def __init__(self, read_secret: ReadSecret, credential: str, file: Path | None) -> None:
        self._read_secret, self._credential, self._file = read_secret, credential, file
        self._newest: Secret | None = None
        self._reading: asyncio.Future[Secret] | None = None

    @property
    def where(self) -> str:
        """Where it is given, for a sentence."""
        if self._credential:
            return f"the credential {self._credential}"
        return f"the file {self._file}"

    async def read(self) -> Secret:
        """Return it as it is now.  Raises ConfigError.

        Many may ask at once, as the children of one batch do: one reading serves them all.
        """
        if self._reading is None or self._reading.done():
            self._newest = None
            # a future, and not a task: one who is cancelled leaves nothing that has to go on
            self._reading = asyncio.get_running_loop().run_in_executor(
                None, self._read_secret, self._credential, self._file
            )
        self._newest = await asyncio.shield(self._reading)
        return self._newest

    async def was_replaced(self, kept: Secret) -> bool:
        """Read it, and return whether it is another than the one that is kept."""
        with contextlib.suppress(ConfigError):  # then the kept one is all there is
            await self.read()
        return self.replaces(kept)

    def replaces(self, kept: Secret) -> bool:
        """Whether it was another than the one that is kept, when it was last read."""
        return self._newest is not None and self._newest != kept


def read_secret(
    directory: Path | None, credential: str, file: Path | None, *, passphrase: bool = False
) -> Secret:
    """Read a secret without the white space, or byte order mark, around it.  Blocks.

    directory: what $CREDENTIALS_DIRECTORY names (systemd.exec(5), "Credentials"); None where the
    service has none.  credential: a name in it; "" to read `file` instead.
    passphrase: whether it is read as by `passphrase_in`.
    Raises ConfigError, which names the file and the remedy.
    """
    strip = passphrase_in if passphrase else _without_space
    if credential:
        return _read(_credential(directory, credential), strip, private=False)
    if file is None:
        raise ConfigError("Neither a credential nor a file is named for the secret.")
    return _read(file, strip, private=True)


def passphrase_in(data: bytes) -> bytes:
    """Return the passphrase in what was read: blanks at its ends belong to it, line ends do not."""
    return data.removeprefix(BOM_UTF8).rstrip(b"\r\n")


def _without_space(data: bytes) -> bytes:
    return data.removeprefix(BOM_UTF8).strip()


def _credential(directory: Path | None, name: str) -> Path:
    if fault := credential_name(name):
        raise ConfigError(f"The name of the credential {name[:64]!a} {fault}.")
    if directory is None:
        raise ConfigError(
            f"The service was started without credentials: add LoadCredential={name}:… or "
            f"LoadCredentialEncrypted={name}:… to its unit."
        )
    return directory / name


def _read(path: Path, strip: Callable[[bytes], bytes], *, private: bool) -> Secret:
    """Read one file.

    private: whether to require that no other user may read it.  Not for a credential: systemd
    guards its directory, and grants access by an ACL, which shows as a mode of 0440.
    """
    try:
        # O_NONBLOCK: a pipe in this place must not block before the check what it is.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check(path, os.fstat(descriptor), private=private)
            value = strip(os.read(descriptor, MAX_BYTES + 1))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"The secret {path} cannot be read: {error.strerror}.") from error
    if not value and not private:  # by gatewayd-secret@.service, where it cannot decrypt it
        raise ConfigError(
            f"The secret {path} is empty: its credential is missing, or cannot be decrypted on "
            "this machine. Give it again with gatewayctl setup"
        )
    if not value or len(value) > MAX_BYTES:
        raise ConfigError(f"The secret {path} must hold 1 to {MAX_BYTES} bytes.")
    return Secret(value)


def _check(path: Path, status: os.stat_result, *, private: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"The secret {path} is not a regular file.")
    if private and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"Others may read the secret {path}: run chmod 0600 {path}")
