"""What a preflight says of the root certificates that are trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from gatewayd.cloud.alibaba import endpoint
from gatewayd.cloud.alibaba.endpoint import Instance
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


def needed(roots: Roots, host: str, port: int, *, trusted: bool) -> Check | None:
    """Say whether the root that vouches for an endpoint of the vendor is trusted.

    trusted: whether the server was, just now.  None for an endpoint of the customer's own, and
    where nothing is known.
    """
    root = endpoint.root_for(host, port)
    if root is None or isinstance(roots, ConfigError):
        return None
    if roots is None:
        return _of_the_system(root, port, trusted=trusted)
    if any(one.sha256 == root.sha256 for one in roots):
        return Check("root", OK, f"ca_file has {root.name}, which port {port} needs.")
    text = f"ca_file lacks {root.name}, which port {port} needs"
    if trusted:
        text, remedy = f"{text}, and yet vouches for the server.", "Make sure who runs the server."
        return Check("root", UNSURE, text, remedy)
    return Check("root", FAILED, f"{text}.", f"{_get(root)} add it to ca_file.")


def _of_the_system(root: endpoint.Root, port: int, *, trusted: bool) -> Check | None:
    if trusted:
        return Check("root", OK, "The system vouches for the server.")
    if root is not endpoint.PRIVATE:
        return None
    text = f"Port {port} needs {root.name}, which no system has."
    return Check("root", FAILED, text, f"{_get(root)} set ca_file to it.")


def _get(root: endpoint.Root) -> str:
    return f"Get {root.name} ({root.published}), compare its SHA-256 with {root.sha256}, and"


def told(roots: Roots, hosts: Iterable[str], now: float) -> Iterator[Check]:
    """Say which roots are trusted.  now: seconds since the epoch."""
    if roots is None:
        yield Check("root", OK, "ca_file is not set: the roots of the system are trusted.")
    elif isinstance(roots, ConfigError):
        yield Check("root", FAILED, str(roots), "Set ca_file to a PEM file with the roots.")
    else:
        custom = any(endpoint.instance_of(host) is Instance.CUSTOM for host in hosts)
        yield from (certificate(root, now, custom=custom) for root in roots[:MAX_ROOTS])
        if len(roots) > MAX_ROOTS:
            yield Check("root", UNSURE, f"ca_file has {len(roots) - MAX_ROOTS} more.")


def certificate(root: Root, now: float, *, custom: bool) -> Check:
    """Say which root this is, by its fingerprint.

    custom: whether an endpoint is the customer's own, so that its root may be, too.
    """
    known = endpoint.root_of(root.sha256)
    whose = f"the vendor's {known.name}" if known else "none that the vendor is known to use"
    text = f"{root.name!a} is {whose}; until {when(root.ends)}, SHA-256 {root.sha256}."
    if not root.valid(now):
        return Check("root", UNSURE, text, "Check the clock; if it is right, replace this root.")
    if known or custom:
        return Check("root", OK, text)
    return Check("root", UNSURE, text, "Keep it in ca_file only if you know where it is from.")


def when(seconds: float) -> str:
    """Return a time as text; seconds since the epoch."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
