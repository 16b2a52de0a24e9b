"""Write packaging/man/gatewayctl-json.5 from the tables of commands.

python -m tools.json_manual > packaging/man/gatewayctl-json.5
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from gatewayd.cli.command import Command
from gatewayd.cli.main import commands_for
from gatewayd.cli.output.fields import DONE, ERROR, PEM, JsonField, table
from gatewayd.dbus.names import NAME

PAGE = Path(__file__).parent.parent / "packaging/man/gatewayctl-json.5"

HEAD = r""".\" Made by tools/json_manual.py.
.TH GATEWAYCTL-JSON 5 2026-11-30 "gatewayd 0.1.0" "File formats"
.SH NAME
gatewayctl\-json \- what gatewayctl prints for programs
.SH DESCRIPTION
With the option
.BR \-\-json ,
each command of
.BR gatewayctl (1)
prints objects in JSON (RFC 8259), one a line, in ASCII, and nothing else on the standard output.
Nothing is asked, and no password is prompted for.
Commands that go on, such as
.BR "watch" ,
print an object as soon as there is one.
.PP
Fields have the names of D-Bus properties where they are such; those are described in
.BR org.gatewayd1 (5).
Times are microseconds since the epoch, 0 for never.
Fields may be added: pass over what you do not know.
.SH ERRORS
A command that fails prints as its last object an error, and its exit status is 1, or 2 for wrong
usage:
"""

MIDDLE = {
    "NOTHING TO RETURN": (DONE, "A command that returns nothing prints:"),
    "CERTIFICATES": (PEM, "A command that returns certificates prints:"),
}
"""What several commands have in common: title, fields, and the sentence before them."""

FOOT = r""".SH SEE ALSO
.BR gatewayctl (1),
.BR org.gatewayd1 (5),
.BR jq (1)
"""


def page() -> str:
    """Return the whole page."""
    shared = [fields for fields, _ in MIDDLE.values()]
    own = [command for command in commands_for(()) if command.fields not in shared]
    lines = [HEAD.rstrip("\n"), *_fields(ERROR)]
    for title, (fields, sentence) in MIDDLE.items():
        words = [one.words for one in commands_for(()) if one.fields == fields]
        lines += [f".SH {title}", sentence, *_fields(fields), ".PP", "So do:"]
        lines += [f".BR {_quoted(one)}{'.' if one == words[-1] else ' ,'}" for one in words]
    lines.append(".SH COMMANDS")
    for command in own:
        lines += _command(command)
    return "\n".join([*lines, FOOT])


def _command(command: Command) -> Iterator[str]:
    yield f".SS {_escaped(command.words)}"
    fields = list(command.fields)
    meanings = {one.meaning for one in fields}
    for interface in sorted(one for one in meanings if one.startswith("property of ")):
        yield f"The properties of {_escaped(interface.removeprefix('property of '))}, and:"
    yield from _fields(one for one in fields if not one.meaning.startswith(f"property of {NAME}"))


def _fields(fields: Iterable[JsonField]) -> Iterator[str]:
    for name, kind, help_ in table(fields):
        yield ".TP"
        yield rf"\fB{_escaped(name)}\fR ({_escaped(kind)})"
        yield _escaped(help_[:1].upper() + help_[1:]) + "."


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    plain = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    print(page(), end="")
