"""The file of metrics that node_exporter reads: replaced in one step, and gone with the daemon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gatewayd.monitoring.figures import GatewayFigures
from gatewayd.monitoring.histogram import DurationHistogram
from gatewayd.monitoring.metrics import Measured
from gatewayd.monitoring.public_files import replace_public
from gatewayd.monitoring.steps import StepCounts
from gatewayd.runtime.tasks import to_the_end

log = logging.getLogger(__name__)

DIRECTORY_VARIABLE: Final = "GATEWAYD_METRICS"
"""The environment variable that names the directory of the file."""
NAME: Final = "gatewayd.prom"

COMMIT_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds.  An SSD takes 1 to 5 ms, flash memory and SD cards 10 to 100 ms; a card that reclaims
blocks stalls for half a second and more, and at 10 s a disk is about to fail."""
FILES = ("records", "secrets", "messages")


class MetricsFile:
    """The file of metrics, and what is measured for it.

    directory: of the file; None where there is none.  every: seconds between two files.
    figures: returns those of now.
    """

    def __init__(
        self,
        directory: Path | None,
        every: float,
        figures: Callable[[], GatewayFigures],
        steps: StepCounts,
    ) -> None:
        self._path = directory / NAME if directory else None
        self._every, self._figures, self._steps = every, figures, steps
        self.commits: Mapping[str, DurationHistogram] = {
            file: DurationHistogram(COMMIT_BOUNDS) for file in FILES
        }
        self._failed = False

    async def run(self) -> None:
        """Replace the file again and again, until cancelled; then remove it."""
        if self._path is None:
            log.warning("No metrics are written: %s names no directory.", DIRECTORY_VARIABLE)
            return
        try:
            while True:
                await self._write(self._path)
                await asyncio.sleep(self._every)
        finally:
            await to_the_end(asyncio.to_thread(_remove, self._path))

    async def _write(self, path: Path) -> None:
        figures, measured = self._figures(), self._measured()
        try:
            await to_the_end(asyncio.to_thread(_replace, path, figures, measured))
        except OSError as error:
            if not self._failed:
                log.warning("No metrics are written: %s: %s. Tried again.", path, error.strerror)
            self._failed = True
        else:
            self._failed = False

    def _measured(self) -> Measured:
        steps = self._steps
        return Measured(
            logins=dict(steps.logins),
            endings=dict(steps.endings),
            refusals=dict(steps.refusals),
            onboarding=steps.times(),
            commits={file: one.observed() for file, one in self.commits.items()},
        )


def _replace(path: Path, figures: GatewayFigures, measured: Measured) -> None:
    from gatewayd.monitoring.exposition import exposition  # noqa: PLC0415  # 3 MB, where wanted

    replace_public(path, exposition(figures, measured))


def _remove(path: Path) -> None:
    """Remove the file: its figures are not true any more."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("The last metrics stay: %s: %s.", path, error.strerror)
