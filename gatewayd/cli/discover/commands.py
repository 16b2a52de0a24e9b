"""The command `gatewayctl discover`."""

from __future__ import annotations

import base64
import json
import os
import secrets
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from gatewayd.cli.command import Client, Command, Connect, add_config, number
from gatewayd.cli.discover.anonymous import Anonymizer, Pseudonyms, Unreadable
from gatewayd.cli.discover.plan import FIELDS, plan_lines, planned
from gatewayd.cli.output import safe, when
from gatewayd.cli.output.fields import Record, flag, maybe, text
from gatewayd.cli.output.fields import number as number_field
from gatewayd.discovery.diagnosis.recorder import END, MAX_BYTES, MAX_DATA, MAX_SECONDS
from gatewayd.discovery.diagnosis.refusals import CAUSES
from gatewayd.errors import GatewayError

REFUSAL: Final = ("Timestamp", "Discoverer", "Interface", "Sender", "Name", "Cause", "Times")
USUAL_SECONDS: Final = 60
MAX_SEARCH: Final = 900
"""Seconds for which devices are searched at most (org.gatewayd1(5), Discover)."""
MAX_LINE: Final = 64 << 10
"""Bytes of a line of a recording."""
SEARCHING: Final = (
    "gatewayd searches for {} s. What it finds: gatewayctl list. What it refuses, and why: "
    "gatewayctl discover --refused"
)
RAW: Final = ("at", "kind", "version", "gatewayd", "seconds", "bytes", "recorded", "source", "to")
"""Fields of a line that hold neither a name nor an address."""


def _refused(connect: Connect) -> Iterator[Record]:
    for row in connect().call("ListRefused"):
        facts = dict(zip(REFUSAL, row, strict=True))
        yield {**facts, "Explanation": CAUSES.get(facts["Cause"], "")}


def _listed(connect: Connect, arguments: Namespace) -> Iterator[str]:
    rows = list(_refused(connect))
    if not rows:
        yield "Nothing was refused."
        return
    yield from arguments.terminal.columns(
        ("SINCE", "INTERFACE", "SENDER", "CAUSE", "TIMES", "NAME"),
        (
            (when(row["Timestamp"]), row["Interface"] or "-", row["Sender"] or "-", row["Cause"],
             row["Times"], row["Name"] or "-")
            for row in rows
        ),
    )  # fmt: skip
    yield ""
    for cause in sorted({row["Cause"] for row in rows} & CAUSES.keys()):
        yield f"{cause}: {CAUSES[cause]}"


def _recorded(connect: Connect, arguments: Namespace) -> Record:
    """Record into the file until the recording ends; return what is in it."""
    client = connect()
    seconds = USUAL_SECONDS if arguments.seconds is None else arguments.seconds
    options = {} if arguments.max_bytes is None else {
        "max-bytes": client.variant(arguments.max_bytes)
    }  # fmt: skip
    with _created(arguments.record) as file:
        try:
            lines = _begun(client, seconds, options, arguments)
        except BaseException:  # Ctrl-C, too
            arguments.record.unlink(missing_ok=True)  # nothing is in it
            raise
        with lines:
            return _copied(lines, file, arguments)


def _begun(
    client: Client, seconds: int, options: Mapping[str, object], arguments: Namespace
) -> BinaryIO:
    """Begin a recording, and a search; return what is recorded."""
    lines = os.fdopen(client.call("Record", seconds, options), "rb")
    try:
        if not arguments.listen:
            client.call("Discover", seconds, arguments.protocols)
    except BaseException:
        lines.close()
        raise
    return lines


def _created(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags, 0o600), "wb")
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}. Name another") from error


def _copied(lines: BinaryIO, file: BinaryIO, arguments: Namespace) -> Record:
    change = _AnonymousEvents(arguments.keep) if arguments.anonymous else None
    end: Mapping[str, Any] = {"reason": "cut", "lost": 0}
    events = 0
    while (line := lines.readline(MAX_LINE)).endswith(b"\n"):  # the last may be cut
        event = json.loads(line)
        events += 1
        if event["kind"] == END:
            end = event
        try:
            file.write(_line(change(event)) if change else line)
            file.flush()
        except OSError as error:
            raise GatewayError(f"{arguments.record} cannot be written: {error.strerror}") from error
    return {
        "File": str(arguments.record), "Events": max(events - 2, 0), "Lost": int(end["lost"]),
        "Reason": str(end["reason"]),
    }  # fmt: skip


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event).encode("ascii") + b"\n"


class _AnonymousEvents:
    """Makes events anonymous, of one recording."""

    def __init__(self, keep: Iterable[str]) -> None:
        self._anonymizer = Anonymizer(Pseudonyms(secrets.token_bytes(32)), tuple(keep))

    def __call__(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an event without names and addresses; a packet that is no DNS is left out."""
        made = dict(event)
        for name, value in event.items():
            if name == "data":
                raw = base64.b64decode(value)[:MAX_DATA]
                try:
                    made[name] = base64.b64encode(self._anonymizer.packet(raw)).decode("ascii")
                except Unreadable:
                    made[name], made["left_out"] = "", len(raw)
            elif name not in RAW:
                made[name] = self._anonymizer.field(name, value)
        return made


def _discover(connect: Connect, arguments: Namespace) -> Iterator[str]:
    _check(arguments)
    if arguments.dry_run:
        yield from plan_lines(arguments)
    elif arguments.refused:
        yield from _listed(connect, arguments)
    elif arguments.record is not None:
        made = _recorded(connect, arguments)
        lost = f", {made['Lost']} lost" if made["Lost"] else ""
        yield f"{made['Events']} events{lost} are in {safe(made['File'])} ({safe(made['Reason'])})."
        if not arguments.anonymous:
            yield "It holds names and addresses; --anonymous replaces them."
    else:
        connect().call("Discover", arguments.seconds, arguments.protocols)
        yield from (
            [SEARCHING.format(arguments.seconds)]
            if arguments.seconds
            else ["The search has ended."]
        )


def _records(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    _check(arguments)
    if arguments.dry_run:
        yield from planned(arguments)
    elif arguments.refused:
        yield from _refused(connect)
    elif arguments.record is not None:
        yield _recorded(connect, arguments)
    else:
        connect().call("Discover", arguments.seconds, arguments.protocols)
        yield {"Done": True}


def _check(arguments: Namespace) -> None:
    """End with wrong usage where options do not belong together."""
    refuse = arguments.refuse
    if arguments.dry_run:
        if arguments.refused or arguments.record is not None or arguments.seconds is not None:
            refuse("--dry-run sends nothing and needs no daemon: use it with --config alone")
        return
    if arguments.record is None:
        wanted = ("--listen", arguments.listen), ("--anonymous", arguments.anonymous), (
            "--keep", arguments.keep), ("--max-bytes", arguments.max_bytes)  # fmt: skip
        if useless := [name for name, value in wanted if value]:
            refuse(f"{', '.join(useless)} need --record FILE")
        if not arguments.refused and arguments.seconds is None:
            refuse(
                f"name for how many seconds to search, at most {MAX_SEARCH}, or --refused, or "
                "--dry-run"
            )
    elif arguments.refused:
        refuse("--refused and --record do not belong together; use one of them")
    elif arguments.keep and not arguments.anonymous:
        refuse("--keep needs --anonymous")
    if not arguments.listen and (arguments.seconds or 0) > MAX_SEARCH:
        refuse(f"a search lasts at most {MAX_SEARCH} s; with --record and --listen up to 3600 s")


def _add_arguments(parser: ArgumentParser) -> None:
    parser.set_defaults(refuse=parser.error)
    parser.add_argument(
        "seconds", type=number(0, MAX_SECONDS), nargs="?",
        help=f"duration, at most {MAX_SEARCH}; 0 ends the search",
    )  # fmt: skip
    parser.add_argument(
        "protocols", nargs="*", metavar="protocol", help='protocols, as "mdns" (default: all)'
    )
    parser.add_argument(
        "--refused", action="store_true", help="show what was refused last, and why"
    )
    parser.add_argument(
        "--dry-run", action="store_true",
        help="show what discovery would send, to whom and how often; send nothing",
    )  # fmt: skip
    add_config(parser)
    parser.add_argument(
        "--record", type=Path, metavar="FILE",
        help="record what comes meanwhile (default: for 60 s): gatewayd-recording(5)",
    )  # fmt: skip
    parser.add_argument("--listen", action="store_true", help="with --record: do not search")
    parser.add_argument(
        "--anonymous", action="store_true", help="with --record: replace names and addresses"
    )
    parser.add_argument(
        "--keep", action="append", default=[], metavar="KEY",
        help="with --anonymous: keep the values of this TXT key; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--max-bytes", type=number(1, MAX_BYTES), metavar="N",
        help="with --record: how much at most (default: 8388608)",
    )  # fmt: skip


COMMANDS: tuple[Command, ...] = (
    Command(
        "discover",
        "search for devices for a while, record what comes, or show what was refused or is sent",
        _add_arguments, _discover, _records,
        maybe(
            flag("Done", "true: the search has begun"),
            number_field("Timestamp", "with --refused: when"),
            text("Discoverer", 'which refused it, or would send it; "proof NAME" for a proof'),
            text("Interface", "where"),
            text("Sender", 'IP address of the sender; "" if it is not known'),
            text("Name", 'name that was announced; "" if it is not known'),
            text("Cause", "why, in a word"), text("Explanation", "why, and what to do"),
            number_field("Times", "how many times"),
            text("File", "with --record: the file"),
            number_field("Events", "events in it"), number_field("Lost", "events that were lost"),
            text("Reason", "why it ended: time, size, helper-ended or cut"),
        ) + FIELDS,
    ),
)  # fmt: skip
