"""Notices to units that what they got is no longer good: a file each, which a path unit watches.

gatewayd starts and stops nothing.  It notes what it gave to which unit.  Where that has been
replaced, or the child rejected, it replaces a file; systemd/gatewayd-credential@.path sees that,
and has the unit restarted, which then asks again.  The notes outlive gatewayd, and end with the
boot, as the units do that they are about.  They hold no secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, TypeAlias

from gatewayd.credentials.holders import Holder, selector_of
from gatewayd.credentials.settings import CredentialSettings
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import Record, RecordStore
from gatewayd.runtime.private_files import write_private
from gatewayd.runtime.tasks import to_the_end
from gatewayd.runtime.watched_file import read_regular

log = logging.getLogger(__name__)

DIRECTORY_VARIABLE: Final = "GATEWAYD_CREDENTIALS"
"""The environment variable that names the directory of notes and notices."""
NOTES: Final = "given.json"
CHANGED: Final = "changed"
"""Names below it: of the notes, and of the directory of notices."""

MAX_NOTES = 20_000
MAX_BYTES = 4 << 20
AGAIN = 30.0
"""Seconds until a notice that could not be given is tried again."""
SETTLE = 0.5
"""Seconds until a change is looked at, as several may come together."""


_Given: TypeAlias = tuple[DeviceId, int, int]
"""The child, and the `Record.issue` of the secret that its holder got."""


class CredentialNotices:
    """What units were given, and the notices that it has changed.

    directory: of notes and notices; None for none.
    is_for_holder: whether, by the rules now, a child's holder is to have its session.
    """

    def __init__(
        self,
        directory: Path | None,
        settings: CredentialSettings,
        records: RecordStore,
        is_for_holder: Callable[[Record], bool],
    ) -> None:
        self._directory, self._settings, self._records = directory, settings, records
        self._is_for_holder = is_for_holder
        self._given: dict[str, _Given] = {}
        self._stale: set[str] = set()
        self._reread: set[str] = set()
        self._changed, self._lock = asyncio.Event(), asyncio.Lock()
        self._loaded = self._unsaved = self._failed = False

    async def given(self, holder: Holder, record: Record) -> bool:
        """Note what a holder is about to get; return whether that is another than before.

        The note is written when this returns: a gatewayd that is killed then gives notice later.
        It is compared with the record once more: that may have changed while it was written.
        """
        name, what = str(holder), (record.device, *record.issue)
        async with self._lock:
            await self._load()
            if self._given.get(name) == what:
                return False
            if len(self._given) < MAX_NOTES or name in self._given:
                self._given[name] = what
                self._unsaved = True
                self._changed.set()
                await self._write()
        return True

    def secret_held(self, _: DeviceId) -> None:
        """Note that a child's credential may be another one."""
        self._changed.set()

    def secret_withheld(self, _: DeviceId) -> None:
        """Note that a child's credential may not be used any more."""
        self._changed.set()

    def reread(self, clouds: Collection[str]) -> None:
        """Have units ask again whose clouds have other files, as roots to trust.  Never blocks."""
        self._reread.update(clouds)
        self._changed.set()

    async def run(self) -> None:
        """Give notice of each change, also of those before the start.  Runs until cancelled."""
        while self._directory is not None:
            async with self._lock:
                await self._load()
                self._changed.clear()
                for name in [one for one in self._given if not self._is_good(one)]:
                    del self._given[name]
                    self._stale.add(name)
                self._reread.clear()
                await self._write()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN if self._failed else None):
                    await self._changed.wait()
            await asyncio.sleep(SETTLE)

    async def _load(self) -> None:
        """Read the notes, once."""
        if not self._loaded and self._directory is not None:
            self._given = await asyncio.to_thread(read_notes, self._directory / NOTES)
        self._loaded = True

    def _is_good(self, name: str) -> bool:
        """Whether a holder may still use what it got, by what is on record.

        A store that cannot be read for a while takes nothing away.
        """
        device, *issue = self._given[name]
        record = self._records.get(device)
        selector = selector_of(_holder(name), self._settings)
        return (
            record is not None
            and selector is not None
            and selector.selects(record)
            and (record.cloud is None or record.cloud.provider not in self._reread)
            and record.issue == tuple(issue)
            and bool(record.activated_at)
            and self._is_for_holder(record)
        )

    async def _write(self) -> None:
        """Write notices, then notes: a notice that comes twice does no harm."""
        if self._directory is None or not (self._stale or self._unsaved):
            return
        try:
            for name in sorted(self._stale):
                if unit := _holder(name).unit:
                    notice = self._directory / CHANGED / unit
                    await _replace(notice, b"\n")
                    log.info("The credential of %s has changed, or is no longer its own.", name)
            notes = json.dumps(self._given).encode()
            await _replace(self._directory / NOTES, notes)
        except OSError as error:
            if not self._failed:
                sentence = "Units do not notice new credentials: %s: %s.  It is tried again."
                log.warning(sentence, self._directory, error.strerror)
            self._failed = self._unsaved = True
        else:
            self._stale.clear()
            self._failed = self._unsaved = False


async def _replace(path: Path, content: bytes) -> None:
    """Replace a file; when this returns, also cancelled, no thread is about to.  Raises OSError."""
    await to_the_end(asyncio.to_thread(write_private, path, content))


def _holder(name: str) -> Holder:
    """Return the holder whose text this is."""
    kind, _, rest = name.partition(" ")
    return Holder(unit=rest.removesuffix(".service")) if kind == "unit" else Holder(user=rest)


def read_notes(path: Path) -> dict[str, _Given]:
    """Return the notes; none where they cannot be read.  Blocks."""
    try:
        found = json.loads(read_regular(path, MAX_BYTES))
        return {
            str(name): (DeviceId(str(device)), int(attempt), int(at))
            for name, (device, attempt, at) in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError, LookupError,
            RecursionError):  # fmt: skip
        return {}
