"""The name of a device at a cloud: fields extracted from its views, put into a template.

A field is extracted from whole values, by a bounded regex.
"""

from __future__ import annotations

import hashlib
import re
import re._constants as op  # type: ignore[import-not-found]  # the parser of re has no stubs
import re._parser as parser  # type: ignore[import-not-found]  # the parser of re has no stubs
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gatewayd.admission.policy.patterns import PROOF_KEYS, VIEW_KEYS, RuleError, known_key
from gatewayd.device.identity import MAX_VALUE, Claim, claim, macs

MAX_NAME = 64
NAME_MARKS = "_ . : @ -"
"""What a name may hold besides letters and digits."""
_TEXT = re.compile(r"[A-Za-z0-9_.:@-]+")
_USABLE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.:@-]{{0,{MAX_NAME - 1}}}")
_PART = re.compile(r"\{([^{}]*)\}|([^{}]+)|(.)", re.S)


def is_name_text(text: str) -> bool:
    """Whether a text is made of what a name may hold."""
    return bool(_TEXT.fullmatch(text))


def _hash12(value: str) -> str:
    return hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:12]


FILTERS: Mapping[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "hash12": _hash12,
    "last4": lambda value: value[-4:],
}


IDENTIFYING = frozenset({"serial", "uuid", "mac"})
"""Fields that identify a device: what all devices of a kind show is none."""

_SHORTENING = frozenset({"hash12", "last4"})


@dataclass(frozen=True, slots=True)
class TemplateField:
    """A placeholder in a template: a field, and the filters that are applied to it."""

    field: str
    filters: tuple[str, ...]

    def fill(self, fields: Mapping[str, str]) -> str:
        """Return the filtered value; "" where the field is absent."""
        value = fields.get(self.field, "")
        for name in self.filters if value else ():
            value = FILTERS[name](value)
        return value


@dataclass(frozen=True, slots=True)
class NameTemplate:
    """A name with placeholders, as "pm-{serial|lower}"."""

    parts: tuple[str | TemplateField, ...]

    @property
    def fields(self) -> frozenset[str]:
        """The fields in the name."""
        return frozenset(part.field for part in self.parts if isinstance(part, TemplateField))

    @property
    def accepts_any_field(self) -> bool:
        """Whether a field may hold what a name may not, as a filter leaves little of it."""
        slots = [part for part in self.parts if isinstance(part, TemplateField)]
        return any(_SHORTENING.intersection(slot.filters) for slot in slots)

    def fill(self, fields: Mapping[str, str]) -> str:
        """Return the name.  Raises RuleError, whose text holds none of the values."""
        absent = sorted(name for name in self.fields if not fields.get(name))
        if absent:
            raise RuleError(f"The device does not have {absent[0]}, which is part of its name.")
        name = "".join(p if isinstance(p, str) else p.fill(fields) for p in self.parts)
        if len(name) > MAX_NAME:
            raise RuleError(f"Its name would be longer than {MAX_NAME} characters.")
        if not _USABLE.fullmatch(name):
            raise RuleError("Its identity holds characters that a name must not hold.")
        return name


def parse_template(text: str, fields: Collection[str]) -> NameTemplate:
    """Parse a template of these fields.  Raises RuleError."""
    parts: list[str | TemplateField] = []
    for slot, literal, stray in _PART.findall(text):
        if stray:
            raise RuleError("unbalanced brace: write fields as {field} or {field|filter}")
        parts.append(_literal(literal) if literal else _slot(slot, fields))
    made = NameTemplate(tuple(parts))
    if not made.fields:
        raise RuleError(
            "it has no extracted field, so two devices would have the same name: add {field}"
        )
    return made


def _literal(text: str) -> str:
    if not is_name_text(text):
        raise RuleError(f"a name holds only letters, digits and {NAME_MARKS}")
    return text


def _slot(text: str, fields: Collection[str]) -> TemplateField:
    field, *filters = (part.strip() for part in text.split("|"))
    if field not in fields:
        raise RuleError(f"unknown field: known are {_listed(fields)}")
    if not set(filters) <= set(FILTERS):
        raise RuleError(f"unknown filter: known are {_listed(FILTERS)}")
    return TemplateField(field, tuple(filters))


def _listed(words: Collection[str]) -> str:
    return ", ".join(sorted(words)) or "none (add 'extract')"


MAX_WAYS = 200_000
"""Ways in which a regex may try to match one value, at most: two `.*` on 255 characters fit."""

_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_CHARACTERS = (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN, op.RANGE, op.AT)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The extraction of a field: the keys that are tried in order, and a regex for the value.

    regex: its only group is the field, or the whole value if it has none.
    """

    field: str
    keys: tuple[str, ...]
    regex: re.Pattern[str] | None

    @property
    def digest(self) -> str:
        """Eight hex digits that are the same for all rules that extract the same."""
        pattern = self.regex.pattern if self.regex else ""
        return hashlib.sha256("|".join((*self.keys, pattern)).encode()).hexdigest()[:8]

    def claims(self, namespace: str, view: Mapping[str, str]) -> Iterator[Claim]:
        """Yield what the field claims of the device's identity: of MACs, all that are listed.

        namespace: what the value means something in, however it is extracted.
        """
        if self.field in IDENTIFYING:
            found = (
                claim(self.field, f"{namespace}/{self.digest}", one) for one in self._all(view)
            )
            yield from (one for one in found if one)

    def of(self, view: Mapping[str, str], common: Collection[str] = ()) -> str:
        """Return the field; "" where the view does not have it.

        common: values that identify no device, as `Claim` has them.
        """
        return next((one for one in self._all(view) if not self._is_common(one, common)), "")

    def _is_common(self, value: str, common: Collection[str]) -> bool:
        if self.field not in IDENTIFYING or not common:
            return False
        claimed = claim(self.field, "", value)
        return claimed is not None and claimed.value in common

    def _all(self, view: Mapping[str, str]) -> Iterator[str]:
        """Yield the values that the field may have, in order."""
        for key in self.keys:
            yield from self._read(view.get(key, ""))

    def _read(self, value: str) -> Iterable[str]:
        if len(value) > MAX_VALUE:  # two devices might differ only in the part that is cut off
            return ()
        if self.regex:
            found = self.regex.fullmatch(value)
            value = (found[self.regex.groups] or "") if found else ""
        if self.field == "mac":
            return macs(value)
        if self.field in IDENTIFYING and claim(self.field, "", value) is None:
            return ()  # a factory's default
        return (value,) if value else ()


def parse_extraction(field: str, text: str) -> Extraction:
    """Make one extraction of "key", "key|key2" or either with " ~ regex".  Raises RuleError.

    A field named "mac" is normalised to 12 hex digits, or the 16 of an EUI-64; of several MACs it
    is the first.  In it, in "serial" and in "uuid", a factory's default counts as absent.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", field):
        raise RuleError("a field is named by lower-case letters, digits and _")
    keys, tilde, regex = text.partition("~")
    named = tuple(known_key(key.strip(), VIEW_KEYS | PROOF_KEYS) for key in keys.split("|"))
    return Extraction(field, named, compile_bounded(regex.strip()) if tilde else None)


def compile_bounded(text: str) -> re.Pattern[str]:
    """Compile a regex that takes a bounded time on any value.  Raises RuleError.

    Python's `re` backtracks, so a regex that can match in many ways is refused.
    """
    if not 0 < len(text) <= MAX_VALUE:
        raise RuleError(f"a regex has 1 to {MAX_VALUE} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            regex = re.compile(text)
            ways = _ways(parser.parse(text))
    except (re.error, Warning, OverflowError, RecursionError) as error:
        raise RuleError(f"invalid regex: {error}") from None
    if regex.groups > 1:
        raise RuleError("a regex has at most one group (…): write the others as (?:…)")
    if ways > MAX_WAYS:
        raise RuleError(
            "this regex can take too long: do not nest repeats or alternatives in a repeat, and "
            "give repeats an upper bound, as {1,20}"
        )
    return regex


def _ways(items: Iterable[tuple[object, Any]]) -> int:
    """Return a bound of the ways in which a sequence can match; at most MAX_WAYS + 1."""
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
    raise RuleError("look-around, back-references and conditions are not supported: remove them")


def _repeated(ways: int, low: int, high: int) -> int:
    if low > MAX_VALUE:
        raise RuleError(f"a value has at most {MAX_VALUE} characters: repeat less often")
    if ways == 1:
        return high - low + 1
    return int(min(ways, MAX_WAYS + 1) ** min(high, 18)) * (high - low + 1)
