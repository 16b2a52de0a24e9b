"""Names a child from its extracted identity.  A name is never cleaned: it is usable or refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from gatewayd.policy.pattern import Unfit

MAX_NAME = 64
_USABLE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.:@-]{{0,{MAX_NAME - 1}}}")
_PART = re.compile(r"\{([^{}]*)\}|([^{}]+)|(.)", re.S)


def _hash12(value: str) -> str:
    return hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:12]


FILTERS: Mapping[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "hash12": _hash12,
    "last4": lambda value: value[-4:],
}


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a template: a field, and the filters it goes through."""

    field: str
    filters: tuple[str, ...]

    def fill(self, fields: Mapping[str, str]) -> str:
        """Return what stands there; "" where the field is absent."""
        value = fields.get(self.field, "")
        for name in self.filters if value else ():
            value = FILTERS[name](value)
        return value


@dataclass(frozen=True, slots=True)
class Template:
    """A name with slots, as "pm-{serial|lower}"."""

    parts: tuple[str | Slot, ...]

    @property
    def fields(self) -> frozenset[str]:
        """The fields that the name is made of."""
        return frozenset(part.field for part in self.parts if isinstance(part, Slot))

    def fill(self, fields: Mapping[str, str]) -> str:
        """Return the name.  Raises Unfit, with a text that holds none of the values."""
        absent = sorted(name for name in self.fields if not fields.get(name))
        if absent:
            raise Unfit(f"The device does not show its {absent[0]}, which its name is made of.")
        name = "".join(p if isinstance(p, str) else p.fill(fields) for p in self.parts)
        if len(name) > MAX_NAME:
            raise Unfit(f"Its name would be longer than {MAX_NAME} characters.")
        if not _USABLE.fullmatch(name):
            raise Unfit("Its identity holds characters that a name must not hold.")
        return name


def template(text: str, fields: Collection[str]) -> Template:
    """Parse a template whose slots name these fields.  Raises Unfit."""
    parts: list[str | Slot] = []
    for slot, literal, stray in _PART.findall(text):
        if stray:
            raise Unfit("a brace has no partner: write fields as {field} or {field|filter}")
        parts.append(_literal(literal) if literal else _slot(slot, fields))
    made = Template(tuple(parts))
    if not made.fields:
        raise Unfit("it holds no extracted field, so two devices would get one name: add {field}")
    return made


def _literal(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:@-]+", text):
        raise Unfit("a name holds only letters, digits and _ . : @ -")
    return text


def _slot(text: str, fields: Collection[str]) -> Slot:
    field, *filters = (part.strip() for part in text.split("|"))
    if field not in fields:
        raise Unfit(f"a slot names no extracted field: known are {_listed(fields)}")
    if not set(filters) <= set(FILTERS):
        raise Unfit(f"unknown filter: known are {_listed(FILTERS)}")
    return Slot(field, tuple(filters))


def _listed(words: Collection[str]) -> str:
    return ", ".join(sorted(words)) or "none (add 'extract')"
