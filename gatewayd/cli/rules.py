"""Commands about rules: list those in force; check files, and try them on recorded sightings."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from gatewayd.admission.policy.engine import PolicyContext, decide
from gatewayd.admission.policy.rules import Decision, Rule
from gatewayd.admission.rules import read_rules
from gatewayd.cli import output
from gatewayd.cli.client import BusRefusal
from gatewayd.cli.command import (
    Command,
    CommandFailed,
    Connect,
    add_config,
    add_id,
    argument,
    arguments,
    no_arguments,
)
from gatewayd.cli.output import safe
from gatewayd.cli.output.fields import Record, flag, maybe, number, text, texts
from gatewayd.config import examine, load
from gatewayd.device.identity import DeviceId, Evidence, Trust
from gatewayd.errors import ConfigError, GatewayError
from gatewayd.plugins import Plugins
from gatewayd.settings.daemon_user import acting_as_daemon
from gatewayd.settings.files import DIRECTORIES, ConfigPaths, Problem, Problems, drop_ins

MAX_LINE = 1 << 20
SITE_RULES = "/etc/gatewayd/rules.d/40-site.toml"
"""Where rules are suggested to be written: its name comes before that of the file of setup."""
_UNDONE = (
    "Nothing was written. Rules are tried in the order of the names of their files: choose a file "
    f"that comes before, as {SITE_RULES}"
)


def checked(
    files: Sequence[Path], clouds: Mapping[str, Collection[str] | None] | None = None
) -> tuple[Sequence[Problem], int]:
    """Return the problems of these files, and the number of their rules.

    clouds: the products of each configured cloud; None to leave them unchecked.
    """
    problems = Problems()
    found = read_rules(files, problems)
    found.check(problems, clouds)
    return problems.found, len(found.rules)


def rules_check(
    files: Sequence[Path],
    out: TextIO,
    clouds: Mapping[str, Collection[str] | None] | None = None,
) -> int:
    """Print each problem of the files as file:line: sentence; return 1 if any is an error.

    clouds: the products of each configured cloud; None to leave them unchecked.
    """
    problems, rules = checked(files, clouds)
    return _print_checked(problems, f"{rules} rules in {len(files)} files can be used.", out)


def _print_checked(problems: Sequence[Problem], good: str, out: TextIO) -> int:
    for problem in problems:
        print(problem, file=out)
    if any(problem.fatal for problem in problems):
        return 1
    print(good, file=out)
    return 0


def _check(_connect: Connect, arguments: Namespace) -> int:
    problems, rules, files = _checked(arguments)
    good = f"{rules} rules in {files} files can be used."
    return _print_checked(problems, good, sys.stdout)


def _checked(arguments: Namespace) -> tuple[Sequence[Problem], int, int]:
    """Return the problems, and the numbers of rules and files.

    Without files, all that is installed is checked, as the daemon does; else the files alone, with
    the clouds that are configured, if any is.
    """
    if not arguments.files:
        with acting_as_daemon() as as_daemon:
            found = examine(
                ConfigPaths.of(arguments.config), Plugins.installed(), as_daemon=as_daemon
            )
        files = {document.path for document, _ in found.rules.places}
        return found.problems.found, len(found.rules.rules), len(files)
    try:
        clouds = load(ConfigPaths.of(arguments.config), Plugins.installed()).products()
    except ConfigError:
        clouds = {}
    return *checked(arguments.files, clouds or None), len(arguments.files)


def _problems(_connect: Connect, arguments: Namespace) -> Iterator[Record]:
    problems, rules, files = _checked(arguments)
    for one in problems:
        yield {"File": str(one.file), "Line": one.line, "Text": one.text, "Fatal": one.fatal}
    if any(one.fatal for one in problems):
        raise CommandFailed("The rules cannot be used")
    yield {"NRules": rules, "NFiles": files}


def rules_test(sightings: Path, files: Sequence[Path], out: TextIO) -> int:
    """Print how the rules decide on each recorded sighting, and how each rule judged it.

    sightings: JSON Lines: objects with the fields of a Sighting, of which source, interface,
    addresses, port, attributes and trust (a word) count.  Each is judged by itself, as if no
    device were admitted yet.  Returns 1 if a rule or a line cannot be used.
    Raises GatewayError if the file cannot be read.
    """
    problems = Problems()
    rules = read_rules(files, problems).rules
    for problem in problems.found:
        print(problem, file=out)
    if problems.fatal:
        return 1
    failed = False
    for place, made in _decisions(sightings, rules):
        failed |= made is None
        for line in _lines(made) if made else ["not a sighting"]:
            print(f"{sightings}:{place}: {line}", file=out)
    return int(failed)


def _tested(_connect: Connect, arguments: Namespace) -> Iterator[Record]:
    problems, failed = Problems(), False
    rules = read_rules(_installed(arguments.files), problems).rules
    problems.check()
    for line, made in _decisions(arguments.sightings, rules):
        failed |= made is None
        if made is not None:
            cloud = (
                {"Provider": made.cloud.provider, "CloudId": str(made.cloud)} if made.cloud else {}
            )
            yield {
                "Line": line, "Action": made.action.value, "Rule": made.rule,
                "Reason": made.reason.code, "Text": str(made.reason), "Trace": list(made.trace),
                **cloud,
            }  # fmt: skip
    if failed:
        raise CommandFailed(f"{arguments.sightings} has lines that are no sightings")


def _decisions(sightings: Path, rules: Sequence[Rule]) -> Iterator[tuple[int, Decision | None]]:
    """Yield the decision on each line; None for one that is no sighting."""
    with _opened(sightings) as lines:
        for place, line in enumerate(iter(lambda: lines.readline(MAX_LINE), ""), 1):
            yield place, _decision(line, rules)


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise GatewayError(f"{path} cannot be read: {error.strerror}") from error


def _decision(line: str, rules: Sequence[Rule]) -> Decision | None:
    """Return the decision on a line; None for one that is no sighting."""
    try:
        evidence = _evidence(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return decide(evidence, rules, DeviceId("child-0"), PolicyContext())


def _lines(made: Decision) -> Iterator[str]:
    where = f" as {made.cloud.provider}:{made.cloud}" if made.cloud else ""
    yield f"{made.action}{where} ({made.reason.code}) {made.reason}"
    yield from (f"    {step}" for step in made.trace)


def _evidence(raw: Mapping[str, Any]) -> Evidence:
    """Return the evidence in a recorded sighting: one view, in which its attributes win."""
    attributes = {str(key): str(value) for key, value in raw.get("attributes", {}).items()}
    addresses = tuple(map(str, raw.get("addresses", ())))
    view = {"source": str(raw["source"]), "interface": str(raw.get("interface", ""))}
    if addresses:
        view["address"] = addresses[0]
    if raw.get("port") is not None:
        view["port"] = str(raw["port"])
    trust = Trust[str(raw.get("trust", "claimed")).upper()]
    return Evidence((view | attributes,), frozenset(), trust, addresses=addresses)


def _installed(files: Sequence[Path]) -> Sequence[Path]:
    """Return the files; without any, those that gatewayd reads."""
    return files or drop_ins([directory / "rules.d" for directory in DIRECTORIES], Problems())


def _listed(connect: Connect, _arguments: Namespace) -> Iterator[Record]:
    for rule in connect().call("ListRules"):
        yield dict(zip(RULE, rule, strict=True))


def _list(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return output.rules(_listed(connect, arguments), arguments.terminal)


def _suggested(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    client = connect()
    given = {name: getattr(arguments, name) for name in ("provider", "product", "route")}
    options = {name: client.variant(value) for name, value in given.items() if value}
    found = client.call("SuggestRule", arguments.id, arguments.purpose, options)
    rule = {name: found[name] for name in SUGGESTION}
    if arguments.write is None:
        yield rule
        return
    with contextlib.ExitStack() as undo:
        _write(arguments.write, rule, undo)
        try:
            client.call("Reload")
        except BusRefusal as error:
            raise BusRefusal(error.name, f"{error}\n{_UNDONE}") from error
        undo.pop_all()
    yield {**rule, "File": str(arguments.write)}


def _write(file: Path, rule: Record, undo: contextlib.ExitStack) -> None:
    """Add a rule to a file, and its entry to its list.  Raises GatewayError.

    undo: gets what leaves both as they were: with a rule that is refused, gatewayd would not start.
    """
    try:
        if rule["List"]:
            _append(file.parent / rule["List"], f"{rule['Entry']}\n", undo)
        _append(file, f"\n{rule['Text']}", undo)
    except OSError as error:
        raise GatewayError(f"{error.filename} cannot be written: {error.strerror}") from error


def _append(file: Path, text: str, undo: contextlib.ExitStack) -> None:
    size = file.stat().st_size if file.exists() else None
    with file.open("a", encoding="utf-8") as opened:
        undo.callback(file.unlink if size is None else partial(os.truncate, file, size))
        opened.write(text)


def _suggest(connect: Connect, arguments: Namespace) -> Iterator[str]:
    for rule in _suggested(connect, arguments):
        yield from map(safe, rule["Text"].splitlines())
        if "File" in rule:
            yield f"# Written to {safe(rule['File'])}, and reloaded."
        else:
            yield f"# To write it, repeat the command with --write {SITE_RULES}"


def _suggest_options(parser: ArgumentParser) -> None:
    add_id(parser)
    purpose = parser.add_mutually_exclusive_group()
    for word, what in (("service", "this service"), ("vendor", "this vendor")):
        purpose.add_argument(
            f"--ignore-{word}", action="store_const", const=f"ignore-{word}", dest="purpose",
            help=f"write a rule that ignores devices of {what}",
        )  # fmt: skip
    parser.set_defaults(purpose="admit")
    parser.add_argument("--provider", default="", help="the cloud (default: the only one)")
    parser.add_argument("--product", default="", help="the product there (default: the only one)")
    parser.add_argument("--route", default="", help="how it is registered (default: the first)")
    parser.add_argument("--write", type=Path, metavar="FILE",
                        help="add the rule to this file, and reload the configuration")  # fmt: skip


RULE = ("Rule", "Action", "Provider", "Hits")
SUGGESTION = ("Name", "Text", "List", "Entry")
_FILES = argument("files", nargs="*", type=Path, help="rule files (default: the installed ones)")

# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("rules list", "list the rules, and on how many devices each has decided", no_arguments,
            _list, _listed,
            (text("Rule", "its name"), text("Action", "what it does"),
             text("Provider", 'the cloud, or ""'), number("Hits", "devices it has decided on"))),
    Command("rules check", "check rule files for mistakes", arguments(_FILES, add_config), _check,
            _problems,
            maybe(text("File", "where a problem is"), number("Line", "its line; 0 for the file"),
                  text("Text", "what is wrong"), flag("Fatal", "false for a warning"),
                  number("NRules", "rules that can be used"), number("NFiles", "their files"))),
    Command("rules test", "show how rules decide on recorded sightings",
            arguments(argument("sightings", type=Path, help="recorded sightings, JSON Lines"),
                      _FILES),
            lambda _, a: rules_test(a.sightings, _installed(a.files), sys.stdout), _tested,
            (number("Line", "of the sighting"), text("Action", "what the rules do"),
             text("Rule", 'the rule that decides, or ""'), text("Reason", "its code"),
             text("Text", "the reason as a sentence"), texts("Trace", "how each rule judged it"),
             *maybe(text("Provider", "the cloud"), text("CloudId", "its name there")))),
    Command("rules suggest", "write a rule that would admit a device and its like, or ignore them",
            _suggest_options, _suggest, _suggested,
            (text("Name", "of the rule"), text("Text", "the rule, for a file in rules.d"),
             text("List", 'the file of identities that it names, or ""'),
             text("Entry", "the line for this device in it"),
             *maybe(text("File", "with --write: where it was written")))),
)
# fmt: on
