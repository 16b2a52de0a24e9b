"""Notices to a unit of the operator's: a flag for each cause, which a path unit watches.

gatewayd starts nothing.  What stands is a text in the directory `standing`; what has begun is an
empty file in the directory `new`, beside it.  systemd/gatewayd-notices.path sees that one, and
systemd/gatewayd-notices.service removes it, and starts gatewayd-notify@CAUSE.service.  Notes of
what was noticed outlive the daemon, and end with the boot: a restart repeats nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from gatewayd.monitoring.causes import (
    Cause,
    PendingChildren,
    StandingCauses,
    Subject,
    causes,
    found,
)
from gatewayd.monitoring.figures import GatewayFigures
from gatewayd.monitoring.public_files import replace_public
from gatewayd.monitoring.settings import NoticeSettings
from gatewayd.runtime.tasks import to_the_end
from gatewayd.runtime.watched_file import read_regular

log = logging.getLogger(__name__)

DIRECTORY_VARIABLE: Final = "GATEWAYD_NOTICES"
"""The environment variable that names the directory."""
NEW: Final = "new"
STANDING: Final = "standing"
NOTES: Final = "noticed.json"
"""Names below it: of the directories, and of the notes."""

LOOK: Final = 15.0
"""Seconds between two looks, at most."""
MAX_NOTES = 1 << 16


class NoticeWriter:
    """The writer of notices.

    directory: where systemd has made those two.  figures: returns those of now.
    now: seconds of a steady clock.
    """

    def __init__(
        self,
        directory: Path,
        settings: NoticeSettings,
        figures: Callable[[], GatewayFigures],
        now: Callable[[], float],
    ) -> None:
        self._directory, self._settings = directory, settings
        self._figures, self._now = figures, now
        self._pending, self._causes = PendingChildren(), StandingCauses(settings.hold)
        self._written: dict[Cause, str] = {}
        self._due: set[Cause] = set()
        self._failed = False

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        self._causes.inherit(await asyncio.to_thread(read_notes, self._directory / NOTES))
        while True:
            self._look()
            await self._write()
            await asyncio.sleep(min(LOOK, self._settings.hold))

    def _look(self) -> None:
        figures, now, settings = self._figures(), self._now(), self._settings
        self._pending.update(figures, now)
        is_noticed = Subject(Cause.PENDING) in self._causes.standing
        waiting = self._pending.longer(0.0 if is_noticed else settings.pending_after, now)
        now_so = dict(found(figures, waiting, settings, self._causes.standing))
        begun = self._causes.update(now_so, now)
        for subject in sorted(begun):
            log.warning("Noticed: %s.", now_so[subject].rstrip("."))
        self._due = (self._due | causes(begun)) & causes(self._causes.standing)

    async def _write(self) -> None:
        texts = {one: self._text(one) for one in causes(self._causes.standing)}
        if texts == self._written and not self._due:
            return
        notes = json.dumps(sorted(self._causes.standing)).encode()
        work = asyncio.to_thread(_replace, self._directory, texts, set(self._due), notes)
        try:
            await to_the_end(work)
        except OSError as error:
            if not self._failed:
                sentence = "No notice is given: %s: %s. Tried again."
                log.warning(sentence, error.filename or self._directory, error.strerror)
            self._failed = True
        else:
            self._written, self._failed = texts, False
            self._due.clear()

    def _text(self, cause: Cause) -> str:
        return "".join(f"{line}\n" for line in self._causes.lines(cause))


def _replace(directory: Path, texts: dict[Cause, str], due: set[Cause], notes: bytes) -> None:
    """Write what stands, then flags, then notes: a notice that comes twice does no harm."""
    for cause in Cause:
        if texts.get(cause):  # after a restart there is none until that is so again
            replace_public(directory / STANDING / cause, texts[cause].encode())
        elif cause not in texts:
            (directory / NEW / cause).unlink(missing_ok=True)
            (directory / STANDING / cause).unlink(missing_ok=True)
    for cause in due:
        (directory / NEW / cause).touch(mode=0o644)
    replace_public(directory / NOTES, notes)


def read_notes(path: Path) -> set[Subject]:
    """Return what was noticed before; nothing where that cannot be read.  Blocks."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        noted = json.loads(read_regular(path, MAX_NOTES))
        return {Subject(Cause(cause), str(name)) for cause, name in noted}
    return set()
