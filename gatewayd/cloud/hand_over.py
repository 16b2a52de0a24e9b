"""What the holder of a child gets from each cloud alike: the roots that it has to trust."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gatewayd.errors import ConfigError
from gatewayd.network.tls import MAX_CA_FILE
from gatewayd.runtime.watched_file import read_regular


async def trusted_roots(ca_file: Path | None) -> str:
    """Return the roots in a file, PEM; "" where those of the system are trusted.

    Raises ConfigError, which names the file.
    """
    if ca_file is None:
        return ""
    try:
        pem = await asyncio.to_thread(read_regular, ca_file, MAX_CA_FILE)
    except OSError as error:
        raise ConfigError(f"The roots {ca_file} cannot be read: {error.strerror}") from error
    return pem.decode("ascii", "replace")
