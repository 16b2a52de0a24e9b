"""What the rules want of a name, as data: it is judged without the rules themselves.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gatewayd.discovery.discoverer import MATCHABLE, Interest

NAME_KEYS = frozenset({"source", "service", "instance", "interface"})
"""The keys of a name that are known before it is resolved."""
MAX_VALUE = 255


@dataclass(frozen=True, slots=True)
class NameRule:
    """One rule, as far as it is about names.

    globs: for each key the globs in lower case of which one must match; all keys must.
    whole: whether the rule has no other conditions.
    interest: what the rule wants of a device that it matches.
    """

    globs: tuple[tuple[str, tuple[str, ...]], ...]
    whole: bool
    interest: Interest


def judge_name(attributes: Mapping[str, str], rules: Sequence[NameRule]) -> Interest:
    """Return the interest in a name.  attributes: of NAME_KEYS; an absent one is not known yet."""
    for rule in rules:
        known = [(_value(attributes, key), globs) for key, globs in rule.globs if key in attributes]
        if not all(_matches(value, globs) for value, globs in known):
            continue
        if rule.interest in MATCHABLE:
            return Interest.WANTED
        if rule.whole and len(known) == len(rule.globs):
            return rule.interest
    return Interest.STRANGER


def _value(attributes: Mapping[str, str], key: str) -> str:
    """Return a value as rules compare it: a source counts without its interface."""
    value = attributes[key][:MAX_VALUE].lower()
    return value.partition("/")[0] if key == "source" else value


def _matches(value: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(value, glob) for glob in globs)
