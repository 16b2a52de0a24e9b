"""`gatewayctl dump`: what a fault report needs, in one JSON object, without any secret.

What the daemon knows comes over D-Bus.  What it may not read, by its sandbox, is added here, with
the rights of the caller: the versions of packages, a preflight, and the journal.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import ssl
import subprocess
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from gatewayd import __version__
from gatewayd.cli.clouds import preflight_records
from gatewayd.cli.command import (
    Command,
    CommandFailed,
    Connect,
    add_config,
    argument,
    arguments,
    write_file,
)
from gatewayd.cli.output.fields import Record, anything, maybe, text
from gatewayd.cli.output.terminal import sign_of_life
from gatewayd.errors import GatewayError

LINES = 2000
"""Entries of the journal, the newest."""
MAX_JOURNAL = 2 << 20
"""Bytes of them; older ones are left out."""
PATIENCE = 30.0
"""Seconds for a program that is run."""

JOURNAL = (
    "journalctl", "--no-pager", "--quiet", "--output=short-iso", f"--lines={LINES}",
    "--unit=gatewayd.service", "--unit=gatewayd-*",
)  # fmt: skip
PACKAGES = (
    "dpkg-query", "--show", "--showformat=${Package} ${Version}\n", "gatewayd*", "cockpit-gatewayd",
    "dbus", "dbus-broker", "etcd-server", "mosquitto", "nftables", "polkitd", "python3", "systemd",
)  # fmt: skip
LIBRARIES = (
    "gatewayd", "aiohttp", "asyncssh", "cryptography", "keyring", "paho-mqtt", "prometheus-client",
    "pydbus", "PyGObject", "tomli", "tpm2-pytss", "zeroconf",
)  # fmt: skip


def report(connect: Connect, wanted: Namespace) -> dict[str, Any]:
    """Return the report.  wanted: has `config` and `no_preflight`.  Raises GatewayError."""
    with os.fdopen(connect().call("Dump"), "rb") as diagnostics:
        found: dict[str, Any] = json.loads(diagnostics.read())
    with sign_of_life("Trying the clouds", wanted=not wanted.json):
        checks = None if wanted.no_preflight else preflight(wanted.config)
    return {
        **found,
        "versions": versions(),
        "preflight": checks,
        "journal": journal(JOURNAL),
    }


def versions() -> Mapping[str, object]:
    """Return the versions of what gatewayd runs on."""
    return {
        "gatewayctl": __version__,
        "system": _system(),
        "openssl": ssl.OPENSSL_VERSION,
        "sqlite": sqlite3.sqlite_version,
        "libraries": _libraries(),
        "packages": dict(line.split(" ", 1) for line in _lines(PACKAGES)[0] if " " in line),
    }


def journal(command: Sequence[str]) -> Mapping[str, object]:
    """Return the newest lines of the journal of gatewayd's units, and what is wrong with them.

    command: prints them, oldest first.
    """
    lines, fault = _lines(command)
    size, kept = 0, 0
    for line in reversed(lines):
        size += len(line) + 1
        if size > MAX_JOURNAL:
            break
        kept += 1
    return {"lines": lines[len(lines) - kept :], "left_out": len(lines) - kept, "fault": fault}


def preflight(config: Path) -> Sequence[Record]:
    """Return each check that is made, also where a later one fails."""
    checks: list[Record] = []
    try:
        checks.extend(preflight_records(config, ""))
    except CommandFailed:
        pass  # the checks say which
    except GatewayError as error:
        checks.append({"Fault": str(error)})
    except Exception as error:  # noqa: BLE001  # border: a report of faults has this one, too
        checks.append({"Fault": f"The preflight failed: {type(error).__name__}"})
    return checks


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return ""


def _libraries() -> Mapping[str, str]:
    """Return the versions of the Python packages that gatewayd depends on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _lines(command: Sequence[str]) -> tuple[list[str], str]:
    """Return what a program prints, and why that is not all."""
    try:
        ran = subprocess.run(  # noqa: S603  # one of the commands above
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [], f"{command[0]} takes too long"
    except OSError as error:
        return [], f"{command[0]} cannot be run: {error.strerror}"
    return ran.stdout.splitlines(), ran.stderr.strip()


def _dump(connect: Connect, wanted: Namespace) -> Iterator[str]:
    found = json.dumps(report(connect, wanted), indent=1)
    if wanted.output is None:
        yield found
    else:
        write_file(wanted.output, f"{found}\n".encode("ascii"), overwrite=True)


def _dumped(connect: Connect, wanted: Namespace) -> Iterator[Record]:
    lines = list(_dump(connect, wanted))
    yield {"Diagnostics": json.loads(lines[0])} if lines else {"File": str(wanted.output)}


COMMANDS: tuple[Command, ...] = (
    Command(
        "dump", "print diagnostics as JSON, for a fault report (contains no secret)",
        arguments(
            argument("--output", type=Path, metavar="FILE", help="write them to this file"),
            argument("--no-preflight", action="store_true", help="do not try the clouds"),
            add_config,
        ),
        _dump, _dumped,
        maybe(anything("Diagnostics", "the diagnostics"),
              text("File", "the file that was written")),
    ),
)  # fmt: skip
