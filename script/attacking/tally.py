"""What campaigns have done so far, in a file: one that was interrupted goes on where it ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Effort:
    """What was done with one parser.  seconds: of processor time."""

    seconds: float = 0.0
    inputs: int = 0
    crashes: int = 0


class Tally:
    """The effort for each parser, in all runs together.

    path: of the file; None keeps nothing, so that each run counts alone.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        kept = json.loads(path.read_bytes()) if path is not None and path.exists() else {}
        self._efforts = {name: Effort(**effort) for name, effort in kept.items()}

    def of(self, name: str) -> Effort:
        """Return what was done with a parser."""
        return self._efforts.get(name, Effort())

    def add(self, name: str, more: Effort) -> None:
        """Add to it, and replace the file."""
        so_far = self.of(name)
        self._efforts[name] = replace(
            so_far,
            seconds=so_far.seconds + more.seconds,
            inputs=so_far.inputs + more.inputs,
            crashes=so_far.crashes + more.crashes,
        )
        if self._path is not None:
            written = self._path.with_name(f"{self._path.name}.new")
            efforts = {one: asdict(effort) for one, effort in sorted(self._efforts.items())}
            written.write_text(json.dumps(efforts, indent=1) + "\n")
            written.replace(self._path)
