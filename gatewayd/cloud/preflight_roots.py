"""What a preflight says of the root certificates that are trusted, whatever the cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from gatewayd.cloud.certificates import Root, read_roots
from gatewayd.cloud.checks import Check, Verdict
from gatewayd.errors import ConfigError

OK, UNSURE, FAILED = Verdict.OK, Verdict.UNSURE, Verdict.FAILED
MAX_ROOTS = 16
"""So many certificates of a file are shown."""

Roots: TypeAlias = Sequence[Root] | ConfigError | None
"""Those of ca_file, or why they cannot be read; None for those of the system."""


def read(ca_file: Path | None) -> Roots:
    """Read what is trusted.  Blocks."""
    try:
        return None if ca_file is None else read_roots(ca_file)
    except ConfigError as error:
        return error


def told(roots: Roots, show: Callable[[Root], Check]) -> Iterator[Check]:
    """Say which roots are trusted.  show: says it of one."""
    if roots is None:
        yield Check("root", OK, "ca_file is not set: the roots of the system are trusted.")
    elif isinstance(roots, ConfigError):
        yield Check("root", FAILED, str(roots), "Set ca_file to a PEM file with the roots.")
    else:
        yield from map(show, roots[:MAX_ROOTS])
        if len(roots) > MAX_ROOTS:
            yield Check("root", UNSURE, f"ca_file has {len(roots) - MAX_ROOTS} more.")


def certificate(root: Root, now: float, whose: str, *, expected: bool = True) -> Check:
    """Say which root this is, by its fingerprint.

    now: seconds since the epoch.  whose: what is known of it, as "is trusted".
    expected: whether nobody needs to wonder where it is from.
    """
    text = f"{root.name!a} {whose}; until {when(root.ends)}, SHA-256 {root.sha256}."
    if not root.valid(now):
        return Check("root", UNSURE, text, "Check the clock; if it is right, replace this root.")
    if expected:
        return Check("root", OK, text)
    return Check("root", UNSURE, text, "Keep it in ca_file only if you know where it is from.")


def when(seconds: float) -> str:
    """Return a time as text; seconds since the epoch."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
