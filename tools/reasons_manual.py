"""Write packaging/man/gatewayd-reasons.7 from the reasons in the code.

python -m tools.reasons_manual > packaging/man/gatewayd-reasons.7
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gatewayd.network.connect_errors import RELOAD

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "packaging/man/gatewayd-reasons.7"
LEFT_OUT = ("simulator", "testing", "cli")
"""Folders that have no reasons of a gateway."""

GROUPS: Mapping[str, str] = {
    "admission": "ADMISSION",
    "device": "THE SECRET STORE, AND CHILDREN THAT COME BACK",
    "proofs": "PROOFS OF DEVICES",
    "manager": "CHILDREN",
    "site": "SITES OF SEVERAL GATEWAYS",
    "registration": "REGISTRATION",
    "sessions": "SESSIONS",
    "cloud": "ANY CLOUD",
    "network": "CONNECTIONS, TO CLOUDS AND TO BROKERS",
    "cloud/alibaba": "ALIBABA CLOUD IOT PLATFORM",
    "cloud/huawei": "HUAWEI CLOUD IOTDA",
    "messages": "MESSAGES",
    "commands": "COMMANDS OF CLOUDS",
}
"""The title of the reasons of each folder, in the order of the page; a longer name takes
precedence."""

HEAD = r""".\" Made by tools/reasons_manual.py.
.TH GATEWAYD-REASONS 7 2026-11-30 "gatewayd 0.1.0" "Miscellaneous"
.SH NAME
gatewayd\-reasons \- why a child, a cloud or a message is in its state, and what to do
.SH DESCRIPTION
.BR gatewayd (8)
gives each state a reason: a code that never changes its meaning, a sentence, and a remedy where
there is something to do.
.B gatewayctl explain
.I ID
prints those of a child; the D-Bus properties are
.BR Reason ,
.B Explanation
and
.BR Remedy :
see
.BR org.gatewayd1 (5).
.PP
Below are the codes, with their sentences.
An ellipsis stands for what depends on the case; CHILD for the id of the child, and CLOUD for the
name of its cloud: both are filled in where the remedy is shown.
Where a file is to be corrected, run
.B gatewayctl reload
afterwards: it tries again what failed, and prints which changes wait for a restart.
Other clouds, as plug\-ins, have reasons of their own.
"""

FOOT = r""".SH SEE ALSO
.BR gatewayctl (1),
.BR org.gatewayd1 (5),
.BR gatewayd (8)
"""


@dataclass(frozen=True, order=True)
class DocumentedReason:
    """A reason as it stands in the code.  text and remedy: with "..." for what is filled in."""

    code: str
    text: str
    remedy: str


@cache
def reasons() -> Mapping[str, tuple[DocumentedReason, ...]]:
    """Return the reasons of each group, without repeats."""
    found: dict[str, set[DocumentedReason]] = {group: set() for group in GROUPS}
    for path in sorted((ROOT / "gatewayd").rglob("*.py")):
        place = path.relative_to(ROOT / "gatewayd").parent.as_posix()
        if place.partition("/")[0] not in LEFT_OUT:
            found[_group(place)] |= set(in_module(path.read_text()))
    return {group: tuple(sorted(found[group])) for group in GROUPS}


def _group(place: str) -> str:
    fitting = [group for group in GROUPS if f"{place}/".startswith(f"{group}/")]
    return max(fitting, key=len, default="manager")


def in_module(source: str) -> Iterator[DocumentedReason]:
    """Yield the reasons that a module makes by the names of its functions."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    named = Names(tree, nodes)
    for node in nodes:
        if isinstance(node, ast.Dict):
            yield from named.in_table(node)
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        start = MAKERS.get(name)
        if start is None or len(node.args) <= start:
            continue
        code, text, remedy = (
            named.argument(node, start + number, key)
            for number, key in enumerate(("code", "text", "remedy"))
        )
        if code and "..." not in code and text:
            yield DocumentedReason(code, text, remedy)


MAKERS = {"Reason": 0, "_meaning": 1, "_refusal": 0}
"""What makes a reason, with the position of its code among the arguments."""


class Names:
    """The texts that names stand for in a module: those of its functions, and its own.

    nodes: all that are in the tree.
    """

    def __init__(self, tree: ast.Module, nodes: Iterable[ast.AST]) -> None:
        self._own = {name: text for _, name, text in _assigned(tree.body)}
        self._members = {
            (node.name, name): text
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            for _, name, text in _assigned(node.body)
        }
        self._functions = [
            node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]

    def argument(self, call: ast.Call, position: int, key: str) -> str:
        """Return the text of an argument; "" where it is not given."""
        given = {one.arg: one.value for one in call.keywords}
        value = call.args[position] if position < len(call.args) else given.get(key)
        return "" if value is None else self._text(value, call.lineno)

    def in_table(self, table: ast.Dict) -> Iterator[DocumentedReason]:
        """Yield the reasons in a table of pairs, a sentence and a remedy, by members of an enum."""
        for key, value in zip(table.keys, table.values, strict=True):
            match key, value:
                case ast.Attribute(), ast.Tuple(elts=[ast.expr() as text, ast.expr() as remedy]):
                    code, *pair = (self._text(one, key.lineno) for one in (key, text, remedy))
                    if code != "..." and pair[0] != "...":
                        yield DocumentedReason(code, *pair)

    def _text(self, value: ast.expr, line: int) -> str:
        """Return a text in the code, with "..." for what is filled in."""
        match value:
            case ast.Constant(value=str(text)):
                return text
            case ast.JoinedStr(values=parts):
                return "".join(self._text(part, line) for part in parts)
            case ast.FormattedValue(value=ast.Name() as name):
                return self._own.get(name.id, "...")
            case ast.Attribute(value=ast.Name(id=of), attr=name):
                return self._members.get((of, name), "...")
            case ast.Name(id=name):
                return self._local(name, line) or self._own.get(name, "...")
            case _:
                return "..."

    def _local(self, name: str, line: int) -> str:
        found = [
            (at, text)
            for function in self._functions
            if function.lineno <= line <= (function.end_lineno or function.lineno)
            for at, one, text in _assigned(ast.walk(function))
            if one == name and at < line
        ]
        return max(found)[1] if found else ""


def _assigned(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str, str]]:
    """Yield line, name and text of what is assigned."""
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield node.lineno, target.id, _literal(node.value)


def _literal(value: ast.expr) -> str:
    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_literal(part) for part in parts)
        case _:
            return "..."


def page() -> str:
    """Return the whole page."""
    lines = [HEAD.rstrip("\n")]
    for group, title in GROUPS.items():
        if reasons()[group]:
            lines += [f".SH {title}", *_entries(reasons()[group])]
    return "\n".join([*lines, FOOT])


def _entries(found: Iterable[DocumentedReason]) -> Iterator[str]:
    shown = ""
    for one in found:
        yield from [] if one.code == shown else [".TP", f".B {_escaped(one.code)}"]
        yield from [".IP"] if one.code == shown else []
        shown = one.code
        yield _escaped(_sentence(one.text))
        if one.remedy.strip(". "):
            yield ".br"
            yield rf"\fIWhat to do:\fR {_escaped(_sentence(one.remedy))}"


def _sentence(text: str) -> str:
    """Return a text on one line, with an ellipsis of its own for what is filled in."""
    filled = re.sub(r"\{(host|port|at|secret)\}", "...", text).replace("{reload}", RELOAD)
    plain = " ".join(filled.split())
    return re.sub(r"\.{4,}$", "...", re.sub(r"(\.{3})\.+", r"\1", plain))


def _escaped(text: str) -> str:
    plain = text.replace("-", r"\-")
    return rf"\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    print(page(), end="")
