"""Commands about rules: list those in force; check files, and try them on recorded sightings."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from gatewayd.admission.policy.engine import PolicyContext, decide
from gatewayd.admission.policy.rules import Decision, Rule
from gatewayd.admission.rules import read_rules
from gatewayd.cli import output
from gatewayd.cli.command import Command, Connect, argument, arguments, no_arguments
from gatewayd.device.identity import DeviceId, Evidence, Trust
from gatewayd.errors import GatewayError
from gatewayd.settings.files import DIRECTORIES, Problems, drop_ins

MAX_LINE = 1 << 20


def rules_check(
    files: Sequence[Path],
    out: TextIO,
    clouds: Mapping[str, Collection[str] | None] | None = None,
) -> int:
    """Print each problem of the files as file:line: sentence; return 1 if any is an error.

    clouds: the products of each configured cloud; None to leave them unchecked.
    """
    problems = Problems()
    found = read_rules(files, problems)
    found.check(problems, clouds)
    for problem in problems.found:
        print(problem, file=out)
    if not problems.fatal:
        print(f"{len(found.rules)} rules in {len(files)} files can be used.", file=out)
    return int(problems.fatal)


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
    with _opened(sightings) as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE), ""), 1):
            trace = list(_decision(line, rules))
            failed |= not trace
            for text in trace or ["not a sighting"]:
                print(f"{sightings}:{number}: {text}", file=out)
    return int(failed)


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise GatewayError(f"{path} cannot be read: {error.strerror}") from error


def _decision(line: str, rules: Sequence[Rule]) -> Iterator[str]:
    """Yield the decision and its trace; nothing for a line that is not a sighting."""
    try:
        evidence = _evidence(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    made = decide(evidence, rules, DeviceId("child-0"), PolicyContext())
    yield from _lines(made)


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


def _list(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    return output.rules(connect().call("ListRules"))


_FILES = argument("files", nargs="*", type=Path, help="rule files (default: the installed ones)")

# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("rules list", "list the rules and how many decisions each has made", no_arguments,
            _list),
    Command("rules check", "check rule files for mistakes", _FILES,
            lambda _, a: rules_check(_installed(a.files), sys.stdout)),
    Command("rules test", "show how rules decide on recorded sightings",
            arguments(argument("sightings", type=Path, help="recorded sightings, JSON Lines"),
                      _FILES),
            lambda _, a: rules_test(a.sightings, _installed(a.files), sys.stdout)),
)
# fmt: on
