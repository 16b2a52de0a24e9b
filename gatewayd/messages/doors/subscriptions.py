"""What a door has subscribed to in earlier runs, since a broker keeps that with the session.

A topic that is no longer in the configuration would go on coming; a broker does not say what a
session is subscribed to.  So it is kept in a file: at first what is subscribed to in addition, then
what alone is left.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from gatewayd.messages.doors.site.topic_pattern import MAX_TOPIC
from gatewayd.runtime.private_files import make_private, write_private
from gatewayd.runtime.watched_file import read_regular

log = logging.getLogger(__name__)

MAX_FILTERS = 10_000
_MAX_BYTES = 8 * 1024 * 1024


class SubscriptionRecord(Protocol):
    """The topic filters that a broker may have of a door."""

    async def read(self) -> Sequence[str]:
        """Return them; none where that is not known."""

    async def write(self, filters: Sequence[str]) -> None:
        """Keep them; where that fails, it is logged, and nothing is lost but tidiness."""


class NoSubscriptionRecord:
    """The record of a door whose filters never change: gatewayd's own broker."""

    async def read(self) -> Sequence[str]:
        """Return none."""
        return ()

    async def write(self, filters: Sequence[str]) -> None:
        """Do nothing."""


class SubscriptionFile:
    """A record in a file.  path: in the state directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> Sequence[str]:
        """Return what the file holds; none where it is missing or damaged."""
        return await asyncio.to_thread(self._read)

    async def write(self, filters: Sequence[str]) -> None:
        """Replace the file.  What fails is logged."""
        try:
            await asyncio.to_thread(self._write, filters)
        except OSError as error:
            log.warning("Cannot write %s: %s.", self._path, error.strerror)

    def _read(self) -> Sequence[str]:
        try:
            content = json.loads(read_regular(self._path, _MAX_BYTES))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, RecursionError):
            log.warning("%s cannot be read: topics of an earlier run may go on coming.", self._path)
            return ()
        listed = content if isinstance(content, list) else []
        return [one for one in listed[:MAX_FILTERS] if isinstance(one, str) and _is_filter(one)]

    def _write(self, filters: Sequence[str]) -> None:
        make_private(self._path)
        write_private(self._path, json.dumps(list(filters)).encode())


def _is_filter(text: str) -> bool:
    return 0 < len(text) <= MAX_TOPIC and "\0" not in text
