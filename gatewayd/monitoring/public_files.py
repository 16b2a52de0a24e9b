"""Files below /run that everyone may read, and that are replaced in one step."""

from __future__ import annotations

import os
from pathlib import Path

PUBLIC = 0o644


def replace_public(path: Path, content: bytes) -> None:
    """Replace a file, or make it: who reads it finds the old content or the new one.  Blocks.

    It is for a directory in memory: nothing is written to a disk.  The mode is 0644, whatever the
    umask is.  Raises OSError.
    """
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(unfinished, flags, PUBLIC), "wb") as file:
            os.fchmod(file.fileno(), PUBLIC)
            file.write(content)
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
