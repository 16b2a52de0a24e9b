"""What `gatewayctl preflight` does: look whether everything is in place for the clouds.

It needs no running daemon, reads the same configuration, and registers nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import pwd
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from gatewayd.cli.devices import Command, Connect
from gatewayd.cli.output import safe
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.preflight import Check, Surroundings, Verdict
from gatewayd.config import Configured, Loader, load
from gatewayd.errors import ConfigError, GatewayError
from gatewayd.plugins import Plugins
from gatewayd.settings.files import STANDARD, ConfigPaths

CREDENTIALS = Path("/run/credentials/gatewayd.service")
"""Where systemd keeps the credentials of a unit that is running; for its user, and for root."""

_UNSYNCHRONISED = 5
_TIMEX_BYTES = 512  # more than any architecture has


def surroundings(environ: Mapping[str, str], service: Path = CREDENTIALS) -> Surroundings:
    """Return this machine.  service: the credentials of the running service."""
    given = environ.get("CREDENTIALS_DIRECTORY")
    seen = Path(given) if given else service if os.access(service, os.R_OK | os.X_OK) else None
    read = partial(read_secret, seen)
    return Surroundings(_user(), read, seen is not None, time.time, synchronised)


def _user() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def synchronised() -> bool | None:
    """Whether the kernel says that the clock is kept in step; None if it cannot be asked.

    adjtimex(2): TIME_ERROR is returned while no time service has set the clock.
    """
    try:
        state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _UNSYNCHRONISED


def preflight(
    config: Path, provider: str, plugins: Loader, around: Surroundings, out: TextIO
) -> int:
    """Print each check of the configured clouds as it is made; return 1 if any failed.

    provider: only this one; "" for all.  Raises GatewayError.
    """
    clouds = _wanted(config, provider, plugins, out)
    return int(not clouds or asyncio.run(_run(clouds, around, out)))


def _wanted(config: Path, provider: str, plugins: Loader, out: TextIO) -> Sequence[Configured]:
    """Return the clouds to look at; none where the configuration is wrong, which is printed."""
    try:
        clouds = load(ConfigPaths.of(config), plugins).clouds
    except ConfigError as error:
        for line in str(error).splitlines():
            print(safe(line), file=out)
        return ()
    wanted = [cloud for cloud in clouds if provider in ("", cloud.name)]
    if not wanted:
        known = ", ".join(cloud.name for cloud in clouds) or "none"
        raise GatewayError(f"There is no such cloud: configured are {known}")
    return wanted


async def _run(clouds: Sequence[Configured], around: Surroundings, out: TextIO) -> bool:
    """Return whether any check failed."""
    failed = False
    for cloud in clouds:
        print(f"{cloud.name}:", file=out)
        async with contextlib.aclosing(checks(cloud, around)) as found:
            async for check in found:
                failed |= check.verdict is Verdict.FAILED
                _show(check, out)
    return failed


async def checks(cloud: Configured, around: Surroundings) -> AsyncGenerator[Check, None]:
    """Yield what is found of one cloud, as it is found."""
    look = getattr(cloud.plugin, "preflight", None)
    if look is None:
        yield Check("cloud", Verdict.UNSURE, "This kind of cloud cannot be looked at beforehand.")
        return
    async with contextlib.aclosing(look(cloud.settings, around)) as found:
        async for check in found:
            yield check


def _show(check: Check, out: TextIO) -> None:
    print(f"  {check.verdict:<7} {check.step:<9} {safe(check.text)}", file=out, flush=True)
    if check.remedy:
        print(f"{'':20}{safe(check.remedy)}", file=out, flush=True)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("provider", nargs="?", default="", help="a cloud; else all of them")
    parser.add_argument("--config", type=Path, default=STANDARD, help="main configuration file")


def _command(_connect: Connect, arguments: Namespace) -> int:
    around, plugins = surroundings(os.environ), Plugins.installed()
    return preflight(arguments.config, arguments.provider, plugins, around, sys.stdout)


PREFLIGHT = (
    Command(
        "preflight",
        "look whether everything is in place for the clouds; registers nothing",
        _arguments,
        _command,
    ),
)
"""The command "preflight"; it needs no running daemon."""
