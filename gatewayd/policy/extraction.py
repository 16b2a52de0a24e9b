"""Takes the identity of a device out of what was seen of it: whole values, bounded regexes."""

from __future__ import annotations

import re
import re._constants as op  # type: ignore[import-not-found]  # the parser of re has no stubs
import re._parser as parser  # type: ignore[import-not-found]  # likewise
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gatewayd.device.identity import MAX_VALUE, mac
from gatewayd.policy.pattern import VIEW_KEYS, Unfit, known_key

MAX_WAYS = 200_000
"""In how many ways a regex may try to match one value: two `.*` on 255 characters fit."""

_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_CHARACTERS = (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN, op.RANGE, op.AT)


@dataclass(frozen=True, slots=True)
class Extraction:
    """One field: the keys that are tried in order, and what the whole value must look like.

    regex: its only group is the field, or all of the value if it has none.
    """

    field: str
    keys: tuple[str, ...]
    regex: re.Pattern[str] | None

    def of(self, view: Mapping[str, str]) -> str:
        """Return the field; "" where the view does not hold it."""
        return next((found for key in self.keys if (found := self._read(view.get(key, "")))), "")

    def _read(self, value: str) -> str:
        if len(value) > MAX_VALUE:  # what was cut off could have told two devices apart
            return ""
        if self.regex:
            found = self.regex.fullmatch(value)
            value = (found[self.regex.groups] or "") if found else ""
        return mac(value) if self.field == "mac" else value


def extraction(field: str, text: str) -> Extraction:
    """Make one extraction of "key", "key|key2" or either with " ~ regex".  Raises Unfit.

    A field named "mac" is normalised to 12 hex digits.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", field):
        raise Unfit("a field is named by lower-case letters, digits and _")
    keys, tilde, regex = text.partition("~")
    named = tuple(known_key(key.strip(), VIEW_KEYS) for key in keys.split("|"))
    return Extraction(field, named, bounded(regex.strip()) if tilde else None)


def bounded(text: str) -> re.Pattern[str]:
    """Compile a regex that cannot take long on any value.  Raises Unfit.

    Python's `re` backtracks, so what can match in many ways is refused by its structure.
    """
    if not 0 < len(text) <= MAX_VALUE:
        raise Unfit(f"a regex has 1 to {MAX_VALUE} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            regex = re.compile(text)
            ways = _ways(parser.parse(text))
    except (re.error, Warning, OverflowError, RecursionError) as error:
        raise Unfit(f"not a regex: {error}") from None
    if regex.groups > 1:
        raise Unfit("a regex has at most one group (…): write the others as (?:…)")
    if ways > MAX_WAYS:
        raise Unfit(
            "this regex can take too long: repeat nothing that holds a repeat or an alternative, "
            "and give repeats an upper bound, as {1,20}"
        )
    return regex


def _ways(items: Iterable[tuple[object, Any]]) -> int:
    """Bound in how many ways a sequence can match a value; never more than MAX_WAYS + 1."""
    ways = 1
    for kind, argument in items:
        ways = min(ways * _ways_of(kind, argument), MAX_WAYS + 1)
    return ways


def _ways_of(kind: object, argument: Any) -> int:  # noqa: ANN401  # its shape depends on the kind
    if kind in _CHARACTERS:
        return 1
    if kind in _REPEATS:
        low, high, body = argument
        return _repeated(_ways(body), int(low), min(int(high), MAX_VALUE))
    if kind is op.SUBPATTERN:
        return _ways(argument[-1])
    if kind is op.BRANCH:
        return sum(_ways(branch) for branch in argument[-1])
    raise Unfit("look-around, back-references and conditions cannot be used: leave them out")


def _repeated(ways: int, low: int, high: int) -> int:
    if low > MAX_VALUE:
        raise Unfit(f"a value has at most {MAX_VALUE} characters: repeat less often")
    if ways == 1:
        return high - low + 1
    return int(min(ways, MAX_WAYS + 1) ** min(high, 18)) * (high - low + 1)
