"""Write packaging/man/gatewayd-quickstart.7 from docs/quick-start.md, which is installed, too.

python -m tools.quick_start > packaging/man/gatewayd-quickstart.7
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "docs/quick-start.md"
PAGE = ROOT / "packaging/man/gatewayd-quickstart.7"

HEAD = r""".\" Made by tools/quick_start.py from docs/quick-start.md.
.TH GATEWAYD-QUICKSTART 7 2026-11-30 "gatewayd 0.1.0" "Miscellaneous"
.SH NAME
gatewayd\-quickstart \- from an installed package to the first child online
.SH DESCRIPTION
"""

FOOT = r""".SH SEE ALSO
.BR gatewayd (8),
.BR gatewayctl (1),
.BR gatewayd\-reasons (7),
.BR gatewayd\-simulator (1)
"""


def page() -> str:
    """Return the whole page."""
    _, _, text = SOURCE.read_text().partition("\n\n")
    return HEAD + "\n".join(_lines(text.strip().split("\n\n"))) + "\n" + FOOT


def _lines(paragraphs: list[str]) -> Iterator[str]:
    after_heading = True
    for paragraph in paragraphs:
        if title := re.fullmatch(r"## (?:\d\. )?(.+)", paragraph):
            yield f".SH {title[1].upper()}"
            after_heading = True
            continue
        if paragraph.startswith("    "):
            code = (_plain(line.removeprefix("    ")) for line in paragraph.splitlines())
            yield from (".PP", ".in +4n", ".EX", *code, ".EE", ".in")
        elif paragraph.startswith("- "):
            for item in re.split(r"\n(?=- )", paragraph):
                yield from (".IP \\- 2", _plain(" ".join(item[2:].split())))
        else:
            yield from [] if after_heading else [".PP"]
            yield _plain(" ".join(paragraph.split()))
        after_heading = False


def _plain(text: str) -> str:
    """Return a text for roff, with code in bold."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    escaped = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    print(page(), end="")
