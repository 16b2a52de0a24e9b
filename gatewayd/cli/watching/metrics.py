"""`gatewayctl metrics`: the metrics, as the daemon has written them for node_exporter."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from gatewayd.cli.command import Command, Connect
from gatewayd.cli.output import safe
from gatewayd.cli.output.fields import FieldKind, Record, anything, number, text
from gatewayd.errors import GatewayError
from gatewayd.monitoring.metrics_file import NAME
from gatewayd.monitoring.settings import LONGEST
from gatewayd.runtime.watched_file import read_regular

FILE = Path("/run/gatewayd-metrics") / NAME
STALE = 3 * LONGEST
"""Seconds after which the file is not what the gateway does now."""
MOST = 4 << 20
"""Bytes of the file that are read."""


def _add_file(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--file", type=Path, default=FILE, metavar="FILE",
        help=f"file that the daemon writes (default: {FILE})",
    )  # fmt: skip


def current(path: Path, now: float) -> str:
    """Return the metrics in a file.  now: seconds since the epoch.

    Raises GatewayError where there are none, or old ones.
    """
    try:
        found, written = read_regular(path, MOST), path.stat().st_mtime
    except FileNotFoundError:
        raise GatewayError(
            f"No metrics are written: {path} does not exist. Set enabled = true under [metrics], "
            "and restart gatewayd"
        ) from None
    except OSError as error:
        raise GatewayError(f"The metrics cannot be read: {path}: {error.strerror}") from error
    if (age := now - written) > STALE:
        raise GatewayError(
            f"The metrics are {age:.0f} seconds old: gatewayd does not write them now. "
            "Look at it with systemctl status gatewayd"
        )
    return found.decode(errors="replace")


def _lines(_connect: Connect, arguments: Namespace) -> Iterable[str]:
    return map(safe, current(arguments.file, time.time()).splitlines())


def _samples(_connect: Connect, arguments: Namespace) -> Iterator[Record]:
    from gatewayd.monitoring.exposition import read  # noqa: PLC0415  # --help needs none of it

    for name, kind, labels, value in read(current(arguments.file, time.time())):
        yield {"Metric": name, "Type": kind, "Labels": labels, "Value": value}


COMMANDS: tuple[Command, ...] = (
    Command(
        "metrics", "print the metrics of the gateway, in the text format of Prometheus",
        _add_file, _lines, _samples,
        (
            text("Metric", "name of the sample, as gatewayd_children"),
            text("Type", "gauge, counter or histogram"),
            anything("Labels", "the labels of the sample, by their names", FieldKind.OBJECT),
            number("Value", "its value"),
        ),
    ),
)  # fmt: skip
