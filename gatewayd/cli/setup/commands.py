"""`gatewayctl setup`: asks, or reads a file of answers; writes; and shows the children arrive."""

from __future__ import annotations

import getpass
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gatewayd.cli import output
from gatewayd.cli.command import (
    Client,
    Command,
    Connect,
    add_config,
    number,
    read_file,
    typed,
)
from gatewayd.cli.output import safe
from gatewayd.cli.output.fields import Record, flag, maybe, text, texts
from gatewayd.cli.setup.apply import MAX_FILE, SetupTarget, machine_facts, probe
from gatewayd.cli.setup.dialogue import Dialogue
from gatewayd.cli.setup.plan import RULE, SetupPlan, next_steps, plan, what_is_missing
from gatewayd.cli.setup.questions import Answers, MachineFacts, complete, walk
from gatewayd.cloud.preflight import local_context
from gatewayd.dbus.names import STORE
from gatewayd.errors import ConfigError, GatewayError
from gatewayd.settings.files import parse

WATCH_ON_TERMINAL = 60
"""Seconds for which children are shown to arrive, if no option says otherwise."""
MOST_SHOWN = 200
"""Lines about children, of which there may be thousands."""
LARGEST = 1 << 63
"""Numbers of TOML are below it; the library reads larger ones, of more digits than Python shows."""
LOOK = 1.0
"""Seconds between two looks at the children."""
UNDONE = "Nothing was written"
NO_TERMINAL = "There is no terminal to ask on. Use --answers FILE: its fields are in gatewayctl(1)"


def read_answers(text: str) -> dict[str, str]:
    """Return the answers in a TOML text.  Raises ConfigError, a line for each that is none."""
    try:
        table = parse(text)
    except ValueError as error:
        raise ConfigError(f"The answers are not TOML: {error}") from None
    answers = {key: _text(value) for key, value in table.items()}
    wrong = [key for key, answer in answers.items() if answer is None]
    if wrong:
        raise ConfigError("\n".join(f"{key} must be a text, or a list of texts" for key in wrong))
    return {key: answer for key, answer in answers.items() if answer is not None}


def _text(value: object) -> str | None:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < LARGEST else None
    return value if isinstance(value, str) else None


def _setup(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    """Yield what is done and seen: a text for people, and its parts for programs."""
    if os.geteuid() != 0:
        raise GatewayError("setup writes below /etc and seals secrets: run it as root")
    target, machine = SetupTarget(arguments.config), machine_facts()
    before = target.answers()
    tries = partial(probe, context=local_context(os.environ))
    given: Answers = {}
    if arguments.answers is not None:
        given = read_answers(read_file(arguments.answers, MAX_FILE).decode("utf-8", "replace"))
    if arguments.questions:
        yield from questions_now(given, machine, before)
        return
    if arguments.answers is not None:
        answers, faults = complete(given, machine, before)
        if faults:
            raise ConfigError("\n".join(faults))
        if arguments.preflight:
            yield from _passes(tries(answers))
        dialogue = None
    elif sys.stdin.isatty() and not arguments.json:
        ask, ask_secret = (partial(typed, one, undone=UNDONE) for one in (input, getpass.getpass))
        dialogue = Dialogue(ask, ask_secret, print, tries, machine)
        answers = dialogue.changed(before) if before else dialogue.answers({})
    else:
        raise GatewayError(NO_TERMINAL)
    todo = plan(answers)
    if target.has(todo):
        yield _said("This is how it is set up already: nothing was written.")
    else:
        yield from shown(todo, target)
        if arguments.dry_run or (dialogue is not None and not dialogue.agrees("Write them?")):
            yield _said(f"{UNDONE}.")
            return
        target.put_in_force(todo)
    yield from _arrivals(connect(), todo, answers, _seconds(arguments, dialogue))


def questions_now(given: Answers, machine: MachineFacts, before: Answers) -> Iterator[Record]:
    """Yield each question that is asked after these answers, as a form can show it.

    given, before: as for `complete`.  An answer that is secret is not among what is yielded.
    """
    for question, answer, fault in walk(given, machine, before):
        yield {
            "Text": question.text, "Key": question.key, "Help": question.help,
            "Choices": list(question.choices), "Secret": question.secret,
            "Answer": "" if question.secret else answer, "Fault": fault,
        }  # fmt: skip


def _said(line: str) -> Record:
    return {"Text": line}


def _passes(steps: Iterable[tuple[bool, str]]) -> Iterator[Record]:
    """Yield one for each step of a preflight.  Raises GatewayError if one has failed."""
    good = True
    for passed, line in steps:
        good &= passed
        yield {"Text": line, "Passed": passed}
    if not good:
        raise GatewayError(
            "The cloud cannot be used so: nothing was written. Correct the answers, or use "
            "--no-preflight"
        )


def shown(todo: SetupPlan, target: SetupTarget) -> Iterator[Record]:
    """Yield the files that a plan writes, with their contents; no secret is among them."""
    texts = {target.directory / name: text for name, text in todo.files.items()}
    texts[target.drop_in] = todo.drop_in
    for path in target.paths(todo):
        content = texts.get(path, "(the secret, encrypted for this machine)\n")
        lines = (f"    {line}" if line else "" for line in content.splitlines())
        yield {"Text": "\n".join((f"{path}:", *lines, "")), "File": str(path), "Content": content}


def _arrivals(client: Client, todo: SetupPlan, answers: Answers, seconds: int) -> Iterator[Record]:
    """Yield what is left to do, and the children that arrive, for some seconds."""
    if todo.window:
        client.call("PermitJoin", todo.window, {"rule": client.variant(RULE)})
        yield _said(f"The join window is open for {todo.window} s.")
    yield from map(_said, next_steps(answers))
    yield from map(_said, _protected(client.properties(STORE)))
    end, known = time.monotonic() + seconds, set[tuple[str, str]]()
    while True:
        rows = client.call("ListDevices")
        for row in rows:
            if (row[0], row[1]) not in known and len(known) < MOST_SHOWN:
                known.add((row[0], row[1]))
                line = f"{safe(row[0])} is {safe(row[1])}  {safe(row[3])}".rstrip()
                yield {"Text": line, "Id": row[0], "State": row[1], "Name": row[3]}
        if time.monotonic() >= end:
            break
        time.sleep(LOOK)
    if seconds:
        missing = what_is_missing(answers, {row[0]: row[1] for row in rows})
        yield from map(_said, map(safe, missing))


def _protected(store: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the secrets are protected from, and what is missing for their recovery."""
    protection = str(store["Protection"])
    yield f"Secrets: {output.PROTECTION_TEXTS.get(protection, protection)}."
    if not store["RecoverySlots"] and store["Backend"] == "vault":
        yield "There is no recovery key yet: run gatewayctl vault add-recovery, and write it down."


def _seconds(arguments: Namespace, dialogue: Dialogue | None) -> int:
    if arguments.watch is not None:
        return int(arguments.watch)
    return WATCH_ON_TERMINAL if dialogue is not None else 0


def _options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--answers", type=Path, metavar="FILE",
        help="take the answers from this file, TOML, and ask nothing; - for the standard input",
    )  # fmt: skip
    parser.add_argument(
        "--questions", action="store_true",
        help="list what is asked after the answers of a file, and what is wrong with them",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show what would be written")
    parser.add_argument(
        "--no-preflight", action="store_false", dest="preflight",
        help="write the answers of a file even where the cloud cannot be reached",
    )  # fmt: skip
    parser.add_argument(
        "--watch", type=number(0, 3600), metavar="SECONDS",
        help=f"show children arriving for so long (default: {WATCH_ON_TERMINAL} on a terminal)",
    )  # fmt: skip
    add_config(parser)


COMMANDS: tuple[Command, ...] = (
    Command(
        "setup", "ask what this gateway needs, write it, and show children arriving",
        _options,
        lambda connect, arguments: (one["Text"] for one in _setup(connect, arguments)),
        _setup,
        (text("Text", "a line, or several, as they are printed for people"),
         *maybe(flag("Passed", "of a check of the cloud: whether it is good"),
                text("File", "a file that is written"), text("Content", "what is written into it"),
                text("Id", "id of a device that has arrived"), text("State", "its state"),
                text("Name", "its name"), text("Key", "of a question: the key of its answer"),
                text("Help", "what an answer looks like"), texts("Choices", "all there are"),
                flag("Secret", "whether its answer is a secret"),
                text("Answer", "as given, as before, or by default; empty for a secret"),
                text("Fault", "the rule that the answer breaks; empty for none"))),
    ),
)  # fmt: skip
