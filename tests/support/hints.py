"""The commands that remedies, the catalogue, manual pages and documents print, found there."""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gatewayd import __main__ as daemon
from gatewayd.cli.main import build_parser

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "packaging/catalog/gatewayd.catalog"
MANUALS = sorted((ROOT / "packaging/man").glob("*.[1-8]"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

PROGRAM = re.compile(r"\bgatewayctl (?=[a-z-])|\bgatewayd (?=--[a-z])")
"""Where a command begins; a program alone is a name."""
WORD = re.compile(
    r"""(?P<stop>[,;:).|>&`"]|\\\w|$)|(?P<word>(?:'[^']*'|\{[^{}]*\}|[^\s,;:).|>&`"'\\])+)"""
)
JOINING = {"and", "or", "then", "with", "in", "of", "on", "to", "is", "does", "as", "for", "it",
           "shows", "says", "prints", "lists", "once", "which", "where", "at", "a", "the", "there",
           "them", "itself", "likewise", "beside", "without", "writes", "and,", "has", "makes",
           "issues", "takes", "checks", "reports", "what", "while", "until", "opens"}  # fmt: skip
"""Words of a sentence that end a command inside it."""


OTHERS = re.compile(r"^(?:systemctl|busctl|journalctl) .+$", re.M)
"""Whole lines that are commands of the system, in the catalogue and in examples of manual pages."""


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
        if word.startswith("--") and (quoted := re.match(r' "([^"]*)"', rest[at:])):
            yield from (word, quoted[1])
            at += quoted.end()
            continue
        # a point or a colon inside a word, as in a name of a file, does not end it
        while at < len(rest) - 1 and rest[at] in ".:/" and rest[at + 1].isalnum():
            more = WORD.match(rest, at + 1)
            assert more is not None
            word, at = word + rest[at] + (more["word"] or ""), more.end()
        yield word


def literals(source: str) -> Iterator[str]:
    """Yield the texts in a module, with what is filled in as {}; no docstring is one."""
    nodes = list(ast.walk(ast.parse(source)))
    docs = {
        id(node.value)
        for node in nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    inside: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from [node.value] if id(node) not in docs | inside else []


def in_code() -> Iterator[Hint]:
    """Yield the commands in our modules; one that has no program's name has no command."""
    for path in sorted((ROOT / "gatewayd").rglob("*.py")):
        source = path.read_text()
        named = "gatewayctl" in source or "gatewayd --" in source
        if named and "simulator" not in path.parts:
            for text in literals(source):
                yield from commands(text, str(path.relative_to(ROOT)))


def plain(troff: str) -> str:
    """Return a manual page as text: without requests and fonts, a line for each of its lines."""
    text = re.sub(r'^\.(B|I|BR|RB|BI|IB|IR|RI) "?', "", troff, flags=re.M)
    text = re.sub(r"\\f[BIRP]", "", text).replace("\\-", "-").replace("\\(dq", '"')
    text = re.sub(r"(--[a-z-]+)\n(?=[A-Z]+\b)", r"\1 ", text)  # a value in another font
    return text.replace('" "', " ").replace('"', "")


def in_texts() -> Iterator[Hint]:
    yield from commands(CATALOGUE.read_text().replace("@GATEWAYD_DEVICE@", "ID"), CATALOGUE.name)
    for path in MANUALS:
        if path.name not in ("gatewayctl.1", "gatewayctl-json.5"):  # their synopses
            yield from commands(plain(path.read_text()), path.name)
    for path in DOCUMENTS:
        yield from commands(path.read_text(), str(path.relative_to(ROOT)))


def of_the_system() -> Iterator[Hint]:
    """Yield the commands of the system, whole lines."""
    indented = re.findall(r"^ {4}(.*)$", CATALOGUE.read_text(), re.M)
    texts = [(CATALOGUE.name, "\n".join(indented).replace("@GATEWAYD_DEVICE@", "ID"))]
    for path in MANUALS:
        examples = re.findall(r"^\.EX\n(.*?)^\.EE", path.read_text(), re.M | re.S)
        texts.append((path.name, plain("\n".join(examples))))
    for place, text in texts:
        for line in OTHERS.findall(text):
            yield Hint(place, tuple(shlex.split(line)))


@cache
def hints() -> tuple[Hint, ...]:
    """Return the commands of ours, and where they are printed."""
    return tuple(sorted({*in_code(), *in_texts()}, key=lambda hint: (hint.place, hint.words)))


SAMPLES = {
    "ID": "child-0123456789ab", "CHILD": "child-0123456789ab", "CLOUD": "huawei", "NAME": "huawei",
    "FILE": "file", "KEY": "tpm2", "SLOT": "tpm2", "SECONDS": "60", "CODE": "1234", "WORD": "tpm2",
    "N": "7", "TIME": "2h",
}  # fmt: skip
"""What stands for what an operator fills in."""


def runnable(words: Iterable[str]) -> list[str]:
    """Return a command with samples for what an operator fills in."""
    return [SAMPLES.get(word, "x" if word == "{}" else word) for word in words]


@cache
def _parser(program: str) -> argparse.ArgumentParser:
    return build_parser() if program == "gatewayctl" else daemon._parser()


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
    parser = _parser(program)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser.parse_args(words)
    except SystemExit as error:
        if error.code in (0, None):
            return ""
        return str(getattr(error, "message", said.getvalue().strip().rpartition("error: ")[2]))
    return ""


NEEDS_MORE = "the following arguments are required"
"""What the parser says of a name of a command, which is no command yet."""
