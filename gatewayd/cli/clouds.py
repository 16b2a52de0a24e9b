"""Commands about clouds: list them, and check whether each can be used.

The preflight needs no running daemon, reads the same configuration, and registers nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from gatewayd.cli import output
from gatewayd.cli.command import (
    Client,
    Command,
    CommandFailed,
    Connect,
    action,
    add_config,
    argument,
    arguments,
    no_arguments,
)
from gatewayd.cli.output import safe
from gatewayd.cli.output.fields import Record, of_interface, text
from gatewayd.cli.site import etcd_checks
from gatewayd.cloud.preflight import Check, CheckResult, PreflightContext, checks, local_context
from gatewayd.config import ConfiguredPlugin, PluginLoader, check, load
from gatewayd.dbus.names import GATEWAY, PROVIDER, ObjectInterface, provider_path
from gatewayd.errors import GatewayError
from gatewayd.plugins import Plugins
from gatewayd.settings.daemon_user import acting_as_daemon
from gatewayd.settings.files import ConfigPaths, Problem
from gatewayd.site.settings import SiteSettings

Show = Callable[[str, Check], None]
"""Shows one check of the cloud of this name."""


def preflight(
    config: Path, cloud: str, plugins: PluginLoader, context: PreflightContext, out: TextIO
) -> int:
    """Print each check of the configured clouds as it is made; return 1 if any failed.

    cloud: the name of the only one to check; "" for all.  Raises GatewayError.
    """
    of: list[str] = []

    def show(name: str, check: Check) -> None:
        if of[-1:] != [name]:
            of.append(name)
            print(f"{name}:", file=out)
        _show(check, out)

    problems = check_configuration(config, plugins)
    for problem in problems:
        print(safe(str(problem)), file=out)
    if any(problem.fatal for problem in problems):
        return 1
    return int(asyncio.run(_run(*_configured(config, cloud, plugins), context, show)))


def check_configuration(config: Path, plugins: PluginLoader) -> Sequence[Problem]:
    """Return the problems of configuration and rules, as gatewayd would find them."""
    with acting_as_daemon() as as_daemon:
        return check(ConfigPaths.of(config), plugins, as_daemon=as_daemon)


def _configured(
    config: Path, name: str, plugins: PluginLoader
) -> tuple[Sequence[ConfiguredPlugin], SiteSettings | None]:
    """Return the clouds to check, and the site, if it has an etcd and all are.

    Raises GatewayError.
    """
    found = load(ConfigPaths.of(config), plugins)
    clouds, has_etcd = found.clouds, bool(found.site.endpoints)
    chosen = [cloud for cloud in clouds if name in ("", cloud.name)]
    if not chosen:
        raise _not_configured(name, [cloud.name for cloud in clouds])
    return chosen, found.site if has_etcd and not name else None


def _not_configured(name: str, configured: Sequence[str]) -> GatewayError:
    if not configured:
        return GatewayError("No cloud is configured. Run gatewayctl setup")
    return GatewayError(f"Cloud {name!a} is not configured. Use one of: {', '.join(configured)}")


async def _run(
    clouds: Sequence[ConfiguredPlugin],
    site: SiteSettings | None,
    context: PreflightContext,
    show: Show,
) -> bool:
    """Return whether any check failed."""
    failed = False
    for cloud in clouds:
        async with contextlib.aclosing(checks(cloud.plugin, cloud.settings, context)) as found:
            async for made in found:
                failed |= made.verdict is CheckResult.FAILED
                show(cloud.name, replace(made, remedy=made.remedy.replace("CLOUD", cloud.name)))
    if site is not None:
        async for made in etcd_checks(site, context):
            failed |= made.verdict is CheckResult.FAILED
            show(f"site {site.name}", made)
    return failed


def _show(check: Check, out: TextIO) -> None:
    print(f"  {check.verdict:<7} {check.step:<9} {safe(check.text)}", file=out, flush=True)
    if check.remedy:
        print(f"{'':20}{safe(check.remedy)}", file=out, flush=True)


def _preflight(_connect: Connect, arguments: Namespace) -> int:
    context, plugins = local_context(os.environ), Plugins.installed()
    return preflight(arguments.config, arguments.name, plugins, context, sys.stdout)


def _preflighted(_connect: Connect, arguments: Namespace) -> Iterator[Record]:
    return preflight_records(arguments.config, arguments.name)


def preflight_records(config: Path, cloud: str) -> Iterator[Record]:
    """Yield what each check has found, for a program.

    cloud: the name of the only one to check; "" for all.
    Raises CommandFailed after the last, if any failed; GatewayError.
    """
    plugins, context = Plugins.installed(), local_context(os.environ)
    problems = check_configuration(config, plugins)
    for problem in problems:
        verdict = CheckResult.FAILED if problem.fatal else CheckResult.UNSURE
        yield _record("", Check("config", verdict, str(problem)))
    if any(problem.fatal for problem in problems):
        raise CommandFailed("The configuration cannot be used")
    made: list[Record] = []
    clouds, site = _configured(config, cloud, plugins)
    failed = asyncio.run(_run(clouds, site, context, lambda *one: made.append(_record(*one))))
    yield from made
    if failed:
        raise CommandFailed("A check failed")


def _record(cloud: str, check: Check) -> Record:
    return {
        "Cloud": cloud, "Step": check.step, "Verdict": check.verdict.value, "Text": check.text,
        "Remedy": check.remedy,
    }  # fmt: skip


def _listed(connect: Connect, _arguments: Namespace) -> Iterator[Record]:
    client = connect()
    yield from (client.properties(_place(name)) for name in _names(client))


def _list(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return output.clouds(_listed(connect, arguments), arguments.terminal)


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
    Command("clouds", "list the clouds and their states", no_arguments, _list, _listed,
            of_interface(PROVIDER)),
    action("cloud test", "let the daemon check whether a cloud can be used (registers nothing)",
           argument("name", help="name of the cloud in the configuration"), _test),
    Command("preflight",
            "check name lookup, TLS and credentials for each cloud and etcd (registers nothing)",
            arguments(argument("name", nargs="?", default="",
                               help="name of the cloud in the configuration (default: all)"),
                      add_config),
            _preflight, _preflighted,
            (text("Cloud", 'its name; "" for the configuration, "site NAME" for etcd'),
             text("Step", "what is checked"), text("Verdict", '"ok", "unsure" or "failed"'),
             text("Text", "what was found"),
             text("Remedy", 'what to do; may be ""'))),
)
# fmt: on
