"""The access key of a cloud's console, and the places that it may come from.

It does all that its user may, so it is passed by a descriptor, a credential of systemd or a private
file, and never by an argument or an environment variable, which other processes can read
(proc_pid_cmdline(5), proc_pid_environ(5)).  gatewayd, the daemon, never has it.
"""

from __future__ import annotations

import csv
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError

MAX_KEY = 8 * 1024
"""Bytes of what holds an access key: two lines of some dozen, or three with a session's token."""

FORM = (
    "Write its ID into the first line and its secret into the second, or pass the CSV file of the "
    "console"
)
_STANDARD = (0, 1, 2)
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SECRET = re.compile(r"[!-~]{1,256}")
_TOKEN = re.compile(r"[!-~]{1,7000}")
_CREDENTIAL = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._@:-]{1,255}")


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key.

    id: names it, and is no secret.  secret: signs requests, and is never sent.
    token: of a temporary key, which is sent with each request; None for a lasting one.
    """

    id: str
    secret: Secret
    token: Secret | None = field(default=None)


def parse_access_key(content: bytes, source: str) -> AccessKey:
    """Return the access key that lines hold: ID, secret, and the token of a temporary one.

    content: these lines, or the CSV file as the consoles of both vendors offer it once: a line of
    titles and one of values, whose last two are ID and secret.
    source: where it is from, for the error.  Raises ConsoleError, which shows nothing of it.
    """
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        lines = []
    match [line for line in lines if line]:
        case [titles, values] if "," in titles:
            words = next(csv.reader([values]))[-2:]
        case words:
            pass
    match words:
        case [name, secret] if _ID.fullmatch(name) and _SECRET.fullmatch(secret):
            return AccessKey(name, Secret(secret.encode()))
        case [name, secret, token] if (
            _ID.fullmatch(name) and _SECRET.fullmatch(secret) and _TOKEN.fullmatch(token)
        ):
            return AccessKey(name, Secret(secret.encode()), Secret(token.encode()))
    raise ConsoleError(f"The access key cannot be used: {source} does not hold one. {FORM}")


def key_of_descriptor(number: int) -> AccessKey:
    """Return the access key that a descriptor delivers up to its end, and close it unless it is one
    of the three standard ones.  Blocks.  Raises ConsoleError.
    """
    source = f"file descriptor {number}"
    try:
        if os.isatty(number):
            raise ConsoleError(
                f"The access key cannot be read: {source} is a terminal, which would show it. Use "
                "--key-file FILE, or redirect the descriptor from what prints the key"
            )
        content = _read(number)
        if number not in _STANDARD:
            os.close(number)
    except OSError as error:
        raise _unreadable(source, error) from None
    return parse_access_key(content, source)


def key_of_credential(name: str, directory: str | None) -> AccessKey:
    """Return the access key in a credential of systemd.

    name: as in LoadCredential=.  directory: $CREDENTIALS_DIRECTORY (systemd.exec(5)); None where
    systemd passed none.  Blocks.  Raises ConsoleError.
    """
    if not _CREDENTIAL.fullmatch(name):
        raise ConsoleError(
            "The access key cannot be read: a credential of this name there cannot be. Use the "
            "name in LoadCredential= or LoadCredentialEncrypted="
        )
    if not directory:
        raise ConsoleError(
            f"The access key cannot be read: systemd passed no credential {name}. Run this by "
            f"systemd-run --pipe --property=LoadCredentialEncrypted={name}:FILE, or use --key-file"
        )
    try:
        opened = os.open(Path(directory) / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(opened, "rb") as file:
            content = file.read(MAX_KEY + 1)
    except OSError as error:
        raise _unreadable(f"credential {name}", error) from None
    return parse_access_key(content, f"credential {name}")


def key_of_file(path: Path) -> AccessKey:
    """Return the access key in a file: see `read_private`."""
    return parse_access_key(read_private(path, "access key"), str(path))


def read_private(path: Path, what: str) -> bytes:
    """Return the content of a file that only its owner, who runs this, can read.

    what: the secret that it holds, for the error.  More than MAX_KEY bytes are cut off one after
    them.  Blocks.  Raises ConsoleError.
    """
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(opened, "rb") as file:
            found = os.fstat(opened)
            if not stat.S_ISREG(found.st_mode):
                raise ConsoleError(
                    f"The {what} cannot be read: {path} is no regular file. Use one that is"
                )
            if found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid()):
                raise ConsoleError(
                    f"The {what} is not used: others can read {path}, or it is another user's. "
                    "Make it your own, with mode 0600; if others may have read it, make a new one"
                )
            return file.read(MAX_KEY + 1)
    except OSError as error:
        raise ConsoleError(
            f"The {what} cannot be read: {path}: {error.strerror}. Name a file that you may read"
        ) from None


def _read(number: int) -> bytes:
    content = b""
    while len(content) <= MAX_KEY and (more := os.read(number, MAX_KEY + 1 - len(content))):
        content += more
    return content


def _unreadable(source: str, error: OSError) -> ConsoleError:
    return ConsoleError(
        f"The access key cannot be read: {source}: {error.strerror}. Check --key-fd, "
        "--key-credential or --key-file"
    )
