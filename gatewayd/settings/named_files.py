"""The files that settings name: found by their declarations, looked at before they are needed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from gatewayd.settings.daemon_user import DAEMON_USER, hiding_directory
from gatewayd.settings.declare import FileUse
from gatewayd.settings.files import KeyPath
from gatewayd.settings.grammar import credential_name


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file or directory that a setting names.  at: the setting."""

    at: KeyPath
    path: Path
    use: FileUse


def named_files(
    settings: Any,  # noqa: ANN401  # a dataclass
    at: KeyPath,
    credentials: Path | None = None,
) -> Iterator[NamedFile]:
    """Yield what settings name, and those inside them.

    at: the table of the settings.  credentials: $CREDENTIALS_DIRECTORY; None to leave credentials
    out.
    """
    for one in fields(settings):
        value, here = getattr(settings, one.name), (*at, one.name)
        use, is_credential = (
            one.metadata.get("file"),
            one.metadata.get("grammar") is credential_name,
        )
        if is_credential and value and credentials is not None:
            # a prefix stands for all credentials that begin so
            path = credentials if use is FileUse.DIRECTORY else credentials / value
            yield NamedFile(here, path, use or FileUse.LATER)
        elif use is not None and not is_credential:
            paths = value if isinstance(value, tuple) else (value,)
            yield from (NamedFile(here, path, use) for path in paths if path is not None)
        else:
            yield from _inside(value, here, credentials)


def _inside(value: object, at: KeyPath, credentials: Path | None) -> Iterator[NamedFile]:
    if is_dataclass(value):
        yield from named_files(value, at, credentials)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _inside(item, (*at, key), credentials)
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _inside(item, (*at, number), credentials)


def fault(named: NamedFile, *, as_daemon: bool = False) -> tuple[str, bool]:
    """Return what is wrong with a file now, "" for nothing; and whether gatewayd needs it to start.

    as_daemon: whether this process looks as the daemon's user; what another user may not read is a
    warning.  Blocks.
    """
    needed = named.use is FileUse.START
    acts_for_it = os.getuid() == 0 and os.geteuid() != 0  # root does, for the installed service
    if as_daemon and acts_for_it and hiding_directory(named.path):
        return f"{named.path} is hidden from the service: put it below /etc/gatewayd", needed
    try:
        # O_NONBLOCK: a pipe in this place must not block before the check what it is
        descriptor = os.open(named.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            wrong = _kind_fault(os.fstat(descriptor).st_mode, named.use)
        finally:
            os.close(descriptor)
    except PermissionError:
        if not as_daemon:
            return f"{named.path} cannot be read by this user: check that gatewayd can", False
        return f"{named.path} cannot be read by {DAEMON_USER}: {_GRANT.format(named.path)}", needed
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    remedy = "correct the path, or put the file there" + (
        "" if needed else "; what needs it waits until then"
    )
    return (f"{named.path} {wrong}: {remedy}" if wrong else ""), needed


_GRANT = "give it to that user's group (chgrp gatewayd {0}; chmod g+r {0}), and its directories too"


def _kind_fault(mode: int, use: FileUse) -> str:
    if use is FileUse.DIRECTORY:
        return "" if stat.S_ISDIR(mode) else "is not a directory"
    return "" if stat.S_ISREG(mode) else "is not a regular file"
