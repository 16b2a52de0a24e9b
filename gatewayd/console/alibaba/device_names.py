"""Names of devices that are to be registered: read from a list, and checked before one is sent.

Pure.  Source: the vendor's page "BatchCheckDeviceNames" (help.aliyun.com/document_detail/69482).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gatewayd.errors import ConsoleError

MAX_NAMES = 20_000
"""Names in one list: some ten gateways' children."""
MAX_LIST = 1 << 20
"""Bytes of a list."""
MAX_SHOWN = 10
"""Mistakes of a list that are shown."""

SHORTEST, LONGEST = 4, 32
_NAME = re.compile(rf"[A-Za-z0-9\-_@.:]{{{SHORTEST},{LONGEST}}}")
_RULE = f"Use {SHORTEST} to {LONGEST} letters, digits and - _ @ . :"
_SHOWN_TEXT = 40


def parse_names(content: bytes, source: str) -> tuple[str, ...]:
    """Return the names in a list: one on each line; `#` begins a comment, as in a rule's list.

    content: UTF-8.  source: where it is from, for the error.
    Raises ConsoleError, with one line for each mistake and the number of its line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConsoleError(f"{source} cannot be used: it is not UTF-8. Save it as such") from None
    entries = [
        (number, name)
        for number, line in enumerate(text.splitlines(), 1)
        if (name := line.partition("#")[0].strip())
    ]
    if not entries:
        raise ConsoleError(f"{source} lists no device name. Write one on each line")
    if len(entries) > MAX_NAMES:
        raise ConsoleError(
            f"{source} cannot be used: it lists {len(entries)} device names, and {MAX_NAMES} are "
            "the most. Register them by several lists"
        )
    if mistakes := list(_mistakes(entries)):
        lines = [f"{source}, line {number}: {mistake}" for number, mistake in mistakes[:MAX_SHOWN]]
        if more := len(mistakes) - MAX_SHOWN:
            lines += [f"{source}: and {more} more. Nothing was registered"] if more > 0 else []
        raise ConsoleError("\n".join(lines))
    return tuple(name for _, name in entries)


def check_name(name: str) -> str:
    """Return a name that a device may have.  Raises ConsoleError."""
    if fault := _fault(name):
        raise ConsoleError(fault)
    return name


def in_batches(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Yield names, so many at a time."""
    yield from (names[at : at + size] for at in range(0, len(names), size))


def span(names: Sequence[str]) -> str:
    """Return names for people: the first and the last of several."""
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _mistakes(entries: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield the number of each wrong line, and what is wrong with it."""
    first: dict[str, int] = {}
    for number, name in entries:
        if fault := _fault(name):
            yield number, fault
        elif name in first:
            yield number, f"{name} is on line {first[name]}, too. Remove one of them"
        first.setdefault(name, number)


def _fault(name: str) -> str:
    if _NAME.fullmatch(name):
        return ""
    shown = name if len(name) <= _SHOWN_TEXT else f"{name[:_SHOWN_TEXT]}..."
    why = "it has another character than a device name may have"
    if not SHORTEST <= len(name) <= LONGEST:
        why = f"it has {len(name)} characters"
    return f"{shown!a} cannot be a device name: {why}. {_RULE}"
