"""The generator of packaging/man/gatewayd.toml.5, from the sample of the configuration.

python -m tools.config_manual > packaging/man/gatewayd.toml.5
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tools.config_sample import ROOT, ours, sample

PAGE = ROOT / "packaging/man/gatewayd.toml.5"
PARTS = Path(__file__).with_name("config_manual.5")
"""The page around the settings, which replace the line SETTINGS."""

_TABLE = re.compile(r"#(\[+.+?\]+)")
_SETTING = re.compile(r"#(\w+) = ?(.*)")
_EMPTY = ("", '""', "[]", "{}")


def manual() -> str:
    """Return the whole page."""
    paragraphs = sample(ours()).split("\n\n\n", 1)[1]
    settings = "\n".join(_lines(re.split(r"\n{2,}", paragraphs.strip("\n"))))
    return PARTS.read_text().replace("\nSETTINGS\n", f"\n{settings}\n")


def _lines(paragraphs: list[str]) -> Iterator[str]:
    about = ""
    for paragraph in paragraphs:
        *comment, last = paragraph.splitlines()
        text = " ".join(line.removeprefix("# ") for line in comment)
        if table := _TABLE.fullmatch(last):
            yield f".SS {_plain(table[1])}"
            yield from _sentences(about)
            about = ""
        elif found := _SETTING.fullmatch(last):
            yield from (".TP", f".B {_plain(found[1])}", _plain(_sentence(text, found[2])))
        else:
            about = last.removeprefix("# ")


def _sentence(text: str, default: str) -> str:
    """Return the help as a sentence, with the default in the parentheses at its end."""
    if default not in _EMPTY and "default: " not in text:
        about = text[:-1] + "; " if text.endswith(")") else text + " ("
        text = f"{about}default: {default})"
    return text[:1].upper() + text[1:] + "."


def _sentences(text: str) -> list[str]:
    return [_plain(one) for one in text.split("  ") if one]


def _plain(text: str) -> str:
    """Return a text for roff: a minus that can be searched for, and no line that is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    print(manual(), end="")
