"""What a person reads is plain English: none of the words that this project once used instead."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent

BANNED = re.compile(
    r"\b(somebody|nobody|who(so)?ever|tell(s|ing)?|told|anew|in vain|tak(es?|en) in|ails?|"
    r"looks? whether|hears?|heard|(allow|permit)s? to)\b",
    re.IGNORECASE,
)
"""Say: a user, no one or "not", report, again, failed, accept, check whether, receive.

lintian refuses "allows to" in a manual page, and with it the packages: allows what, or whom?
"""

BANNED_IN_NAMES = re.compile(r"(^|_)(somebody|nobody|whoever|tells?|told|anew|hears?|heard)(_|$)")

ALLOWED = re.compile(
    r"(user|uid|of|as) nobody|nobody:nogroup|\bnobody's uid"
    r'|\A"heard"\Z',  # a word of earlier rules, which settings/former_names.py translates
    re.IGNORECASE,
)
"""The user of this name."""

PYTHON = sorted((TOP / "gatewayd").rglob("*.py"))
TEXTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*", "etc/**/*", "packaging/**/*", "systemd/**/*",
                    "gatewayd/**/*.xml", "script/*")
    for path in TOP.glob(pattern)
    if path.is_file() and path.suffix not in {".png", ".svg"}
)  # fmt: skip


def found(text: str) -> list[str]:
    """Return the banned words of a text."""
    return [match.group() for match in BANNED.finditer(ALLOWED.sub("", text))]


def offences(source: str) -> Iterator[str]:
    """Yield the banned words of a module: in its strings, comments and names."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.start[0]
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            yield from (f"line {line}: {word}" for word in found(token.string))
        elif token.type == tokenize.NAME and BANNED_IN_NAMES.search(token.string):
            yield f"line {line}: {token.string}"


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(TOP)))
def test_the_code_is_in_plain_english(path: Path) -> None:
    assert not list(offences(path.read_text()))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(TOP)))
def test_the_documents_are_in_plain_english(path: Path) -> None:
    assert not found(path.read_text())


@pytest.mark.parametrize(
    "text", ["Nobody knows", "it is told", "look whether", "made anew", "allows to"]
)
def test_a_planted_word_is_found(text: str) -> None:
    assert found(text)
    assert list(offences(f'"""{text}."""\n'))


def test_a_planted_name_is_found() -> None:
    assert list(offences("told = 1\n"))
    assert not list(offences('USER = "user nobody"\n'))
