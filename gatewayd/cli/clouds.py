"""Commands about clouds: list them, and check whether each can be used.

The preflight needs no running daemon, reads the same configuration, and registers nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from gatewayd.cli import output
from gatewayd.cli.command import (
    Client,
    Command,
    Connect,
    add_config,
    argument,
    arguments,
    no_arguments,
)
from gatewayd.cli.output import safe
from gatewayd.cloud.preflight import Check, CheckResult, PreflightContext, checks, local_context
from gatewayd.config import ConfiguredPlugin, PluginLoader, load
from gatewayd.dbus.names import GATEWAY, PROVIDER, ObjectInterface, provider_path
from gatewayd.errors import ConfigError, GatewayError
from gatewayd.plugins import Plugins
from gatewayd.settings.files import ConfigPaths


def preflight(
    config: Path, cloud: str, plugins: PluginLoader, context: PreflightContext, out: TextIO
) -> int:
    """Print each check of the configured clouds as it is made; return 1 if any failed.

    cloud: the name of the only one to check; "" for all.  Raises GatewayError.
    """
    clouds = _configured(config, cloud, plugins, out)
    return int(not clouds or asyncio.run(_run(clouds, context, out)))


def _configured(
    config: Path, name: str, plugins: PluginLoader, out: TextIO
) -> Sequence[ConfiguredPlugin]:
    """Return the clouds to check; print what is wrong with the configuration, and return none."""
    try:
        clouds = load(ConfigPaths.of(config), plugins).clouds
    except ConfigError as error:
        for line in str(error).splitlines():
            print(safe(line), file=out)
        return ()
    chosen = [cloud for cloud in clouds if name in ("", cloud.name)]
    if not chosen:
        raise _not_configured(name, [cloud.name for cloud in clouds])
    return chosen


def _not_configured(name: str, configured: Sequence[str]) -> GatewayError:
    if not configured:
        return GatewayError("No cloud is configured. Add a table [cloud.NAME]: gatewayd.toml(5)")
    return GatewayError(f"Cloud {name!a} is not configured. Use one of: {', '.join(configured)}")


async def _run(clouds: Sequence[ConfiguredPlugin], context: PreflightContext, out: TextIO) -> bool:
    """Return whether any check failed."""
    failed = False
    for cloud in clouds:
        print(f"{cloud.name}:", file=out)
        async with contextlib.aclosing(checks(cloud.plugin, cloud.settings, context)) as found:
            async for check in found:
                failed |= check.verdict is CheckResult.FAILED
                _show(check, out)
    return failed


def _show(check: Check, out: TextIO) -> None:
    print(f"  {check.verdict:<7} {check.step:<9} {safe(check.text)}", file=out, flush=True)
    if check.remedy:
        print(f"{'':20}{safe(check.remedy)}", file=out, flush=True)


def _preflight(_connect: Connect, arguments: Namespace) -> int:
    context, plugins = local_context(os.environ), Plugins.installed()
    return preflight(arguments.config, arguments.name, plugins, context, sys.stdout)


def _list(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    client = connect()
    return output.clouds(client.properties(_place(name)) for name in _names(client))


def _test(connect: Connect, arguments: Namespace) -> Iterator[str]:
    client, name = connect(), arguments.name
    names = _names(client)
    if name not in names:
        raise _not_configured(name, names)
    client.call("Test", at=_place(name))
    yield f"The cloud {safe(name)} can be used."


def _names(client: Client) -> Sequence[str]:
    return list(client.properties(GATEWAY)["Providers"])


def _place(name: str) -> ObjectInterface:
    return ObjectInterface(provider_path(name), PROVIDER)


# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("clouds", "list the clouds and their states", no_arguments, _list),
    Command("cloud test", "let the daemon check whether a cloud can be used (registers nothing)",
            argument("name", help="name of the cloud in the configuration"), _test),
    Command("preflight",
            "check name lookup, TLS and credentials for each cloud (registers nothing)",
            arguments(argument("name", nargs="?", default="",
                               help="name of the cloud in the configuration (default: all)"),
                      add_config),
            _preflight),
)
# fmt: on
