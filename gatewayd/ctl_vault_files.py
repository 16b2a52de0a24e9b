"""The files that the commands about vaults read and write, and what is asked on a terminal."""

from __future__ import annotations

import getpass
import sys
from argparse import Namespace
from pathlib import Path

from gatewayd.cloud.x509_keys import is_locked
from gatewayd.errors import GatewayError
from gatewayd.secretstore.database import write_private
from gatewayd.secretstore.recovery import RecoveryKey

MAX_PEM = 1 << 16
NO_CHOICE = "say --recovery FILE, so that a copy can be opened elsewhere, or else --no-recovery"
QUESTION = """\
Without a recovery key, whoever loses this machine loses every secret in the vault.
File of the public key for recovery (PEM), or nothing for none: """


def read(path: Path, limit: int = MAX_PEM) -> bytes:
    """Read a file, or the standard input where it is "-".  Raises GatewayError."""
    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise GatewayError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise GatewayError(f"{path} is too large: at most {limit} bytes are read")
    return data


def write(path: Path, data: bytes) -> None:
    """Write a file that its owner alone can read: all of it, or nothing.  Raises GatewayError."""
    try:
        write_private(path, data)
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}") from error


def recovery_key(arguments: Namespace) -> RecoveryKey | None:
    """Return the private key that was named; None for none.  Raises GatewayError."""
    file, passphrase = arguments.recovery_key, arguments.passphrase_file
    if file is None:
        return None
    pem = read(file)
    if not is_locked(pem):
        return RecoveryKey(pem)
    if passphrase is not None:
        return RecoveryKey(pem, read(passphrase).rstrip(b"\r\n"))
    return RecoveryKey(pem, getpass.getpass("Passphrase of the recovery key: ").encode())


def chosen_recovery(arguments: Namespace) -> bytes | None:
    """Return the public key for recovery that was chosen, or asked for; None for none.

    Raises GatewayError.
    """
    if arguments.recovery is not None:
        return read(arguments.recovery)
    if arguments.no_recovery:
        return None
    if not sys.stdin.isatty():
        raise GatewayError(NO_CHOICE)
    answer = input(QUESTION).strip()
    return read(Path(answer)) if answer else None
