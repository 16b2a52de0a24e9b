"""Every command that a remedy, an entry of the catalogue or a manual page prints can be run so."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatewayd import __main__ as daemon
from gatewayd.cli.main import build_parser
from gatewayd.device.reason import Reason, addressed

ROOT = Path(__file__).parent.parent
CATALOGUE = ROOT / "packaging/catalog/gatewayd.catalog"
MANUALS = sorted((ROOT / "packaging/man").glob("*.[1-8]"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

PROGRAM = re.compile(r"\bgatewayctl (?=[a-z-])|\bgatewayd (?=--[a-z])")
"""Where a command begins; a program alone is a name."""
WORD = re.compile(
    r"""(?P<stop>[,;:).|>&`"]|\\\w|$)|(?P<word>(?:'[^']*'|\{[^{}]*\}|[^\s,;:).|>&`"'\\])+)"""
)
SAMPLES = {
    "ID": "child-0123456789ab", "CHILD": "child-0123456789ab", "CLOUD": "huawei", "NAME": "huawei",
    "FILE": "file", "KEY": "tpm2", "SLOT": "tpm2", "SECONDS": "60", "CODE": "1234", "WORD": "tpm2",
    "N": "7", "TIME": "2h",
}  # fmt: skip
"""What stands for what an operator fills in."""
JOINING = {"and", "or", "then", "with", "in", "of", "on", "to", "is", "does", "as", "for", "it",
           "shows", "says", "prints", "lists", "once", "which", "where", "at", "a", "the", "there",
           "them", "itself", "likewise", "beside", "without", "writes", "and,", "has", "makes",
           "issues", "takes", "checks", "reports", "what", "while", "until", "opens"}  # fmt: skip
"""Words of a sentence that end a command inside it."""


@dataclass(frozen=True)
class Hint:
    """A command, and where it is printed."""

    place: str
    words: tuple[str, ...]


def commands(text: str, place: str) -> Iterator[Hint]:
    """Yield the commands in a text; each ends with its line, its sentence, or a word of it."""
    for found in PROGRAM.finditer(text):
        rest = text[found.end() :].partition("\n")[0]
        words = [found[0].strip(), *_words(rest)]
        if len(words) > 1:
            yield Hint(place, tuple(words))


def _words(rest: str) -> Iterator[str]:
    at = 0
    while at < len(rest):
        if rest[at].isspace():
            at += 1
            continue
        found = WORD.match(rest, at)
        if found is None or found["word"] is None or found["word"] in JOINING:
            return
        word, at = found["word"], found.end()
        # a point or a colon inside a word, as in a name of a file, does not end it
        while at < len(rest) - 1 and rest[at] in ".:/" and rest[at + 1].isalnum():
            more = WORD.match(rest, at + 1)
            assert more is not None
            word, at = word + rest[at] + (more["word"] or ""), more.end()
        yield word


def literals(path: Path) -> Iterator[str]:
    """Yield the texts in a module, with what is filled in as {}; no docstring is one."""
    tree = ast.parse(path.read_text())
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from [node.value] if id(node) not in docs | inside else []


def in_code() -> Iterator[Hint]:
    for path in sorted((ROOT / "gatewayd").rglob("*.py")):
        if "simulator" not in path.parts:
            for text in literals(path):
                yield from commands(text, str(path.relative_to(ROOT)))


def plain(troff: str) -> str:
    """Return a manual page as text: without requests and fonts, a line for each of its lines."""
    text = re.sub(r'^\.(B|I|BR|RB|BI|IB|IR|RI) "?', "", troff, flags=re.M)
    text = re.sub(r"\\f[BIRP]", "", text).replace("\\-", "-").replace("\\(dq", '"')
    return text.replace('" "', " ").replace('"', "")


def in_texts() -> Iterator[Hint]:
    yield from commands(CATALOGUE.read_text().replace("@GATEWAYD_DEVICE@", "ID"), CATALOGUE.name)
    for path in MANUALS:
        if path.name not in ("gatewayctl.1", "gatewayctl-json.5"):  # their synopses
            yield from commands(plain(path.read_text()), path.name)
    for path in DOCUMENTS:
        yield from commands(path.read_text(), str(path.relative_to(ROOT)))


def runnable(words: Iterable[str]) -> list[str]:
    """Return a command with samples for what an operator fills in."""
    return [SAMPLES.get(word, "x" if word == "{}" else word) for word in words]


PARSERS = {"gatewayctl": build_parser(), "gatewayd": daemon._parser()}


def complaint(hint: Hint) -> str:
    """Return why a command cannot be run as it is printed; "" if it can.

    A name of a group or of a command that needs more is a name in a sentence, and no hint.
    """
    program, *words = runnable(hint.words)
    why = _parse(program, words)
    if "expected one argument" in why:  # the value is quoted, or set in another font
        why = _parse(program, [*words, "host"])
    return why


def _parse(program: str, words: list[str]) -> str:
    """Return why the parser does not accept a command; "" if it does."""
    parser = PARSERS[program]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser.parse_args(words)
    except SystemExit as error:
        if error.code in (0, None):
            return ""
        return str(getattr(error, "message", said.getvalue().strip().rpartition("error: ")[2]))
    return ""


HINTS = sorted({*in_code(), *in_texts()}, key=lambda hint: (hint.place, hint.words))
NEEDS_MORE = "the following arguments are required"


@pytest.mark.parametrize("hint", HINTS, ids=lambda hint: f"{hint.place}: {' '.join(hint.words)}")
def test_a_command_can_be_run_as_it_is_printed(hint: Hint) -> None:
    why = complaint(hint)
    is_name = NEEDS_MORE in why and not any(word.startswith("-") for word in hint.words[1:])
    is_help = hint.place.startswith("gatewayd/cli/")
    in_a_remedy = (hint.place.endswith(".py") and not is_help) or hint.place == CATALOGUE.name
    assert not why or (is_name and not in_a_remedy), why


def test_there_are_hints_of_each_kind() -> None:
    places = {hint.place for hint in HINTS}
    assert {"gatewayd.catalog", "gatewayd.8", "README.md"} <= places
    assert sum(place.endswith(".py") for place in places) > 15
    assert len(HINTS) > 80


@pytest.mark.parametrize(("text", "words"), [
    ("run gatewayctl retry CHILD.", ["gatewayctl", "retry", "CHILD"]),
    ("see gatewayctl huawei ca show --cloud CLOUD, and", None),
    ("gatewayctl lists them", None),
    ("gatewayd --check-config reports", ["gatewayd", "--check-config"]),
    ("gatewayctl door authority > ca.pem", ["gatewayctl", "door", "authority"]),
    ("    gatewayctl vault init --recovery recovery.pem", None),
])  # fmt: skip
def test_commands_are_found(text: str, words: list[str] | None) -> None:
    found = [list(hint.words) for hint in commands(text, "")]
    if words is not None:
        assert found == [words]


def test_what_is_no_command_is_a_complaint() -> None:
    assert complaint(Hint("x", ("gatewayctl", "status")))
    assert complaint(Hint("x", ("gatewayctl", "huawei", "ca", "show", "--provider", "east")))
    assert not complaint(Hint("x", ("gatewayctl", "retry", "CHILD")))


BUS_WORDS = re.compile(
    r"\b(?:[Cc]all|then|;) (?:Retry|Reload|Renew|Reregister|Approve|Forget|Reject)\b"
)


def test_no_remedy_has_words_of_the_bus_or_sudo() -> None:
    for path in sorted((ROOT / "gatewayd").rglob("*.py")):
        for text in literals(path):
            assert not BUS_WORDS.search(text), (path, text)
            assert "sudo " not in text, (path, text)
    assert "sudo " not in CATALOGUE.read_text()


def test_a_remedy_names_child_and_cloud() -> None:
    reason = Reason("x", "", "Run gatewayctl huawei ca show --cloud CLOUD, then retry CHILD.")
    made = addressed(reason, "child-1", "east").remedy
    assert made == "Run gatewayctl huawei ca show --cloud east, then retry child-1."
    assert "CLOUD" in addressed(reason, "child-1", "").remedy


@pytest.mark.parametrize("page", MANUALS, ids=lambda page: page.name)
def test_no_macro_of_a_page_has_a_quote_that_is_not_closed(page: Path) -> None:
    """A stray one is printed."""
    macros = [
        line for line in page.read_text().replace("\\\n", "").splitlines()
        if line.startswith(".") and not line.startswith('.\\"')
    ]  # fmt: skip
    assert macros
    assert [line for line in macros if line.count('"') % 2] == []
