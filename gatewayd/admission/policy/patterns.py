"""Predicates of a rule: anchored globs over the views of a device.

Globs match whole values, without regard to case, and have the wildcards `*`, `?` and `[…]` of
Python's fnmatch.  `*` alone means that the key is present.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from gatewayd.device.identity import MAX_VALUE, mac

VIEW_KEYS = frozenset(
    {"source", "interface", "service", "instance", "host", "address", "port", "mac"}
    | {"model", "vendor", "serial", "uuid"}
)
"""The keys of a view; and any that begins with a word of FREE_WORDS."""

FREE_WORDS = frozenset(
    {"txt", "dhcp", "oui", "lldp", "mqtt", "wsd", "onvif", "ssdp", "upnp", "enip", "knx"}
    | {"coap", "bacnet", "profinet", "modbus", "snmp", "opcua"}
)
"""How the keys begin that a source makes of what a device says, as `txt.model`."""

PROVEN_IDENTITY = "proof.identity"
PROOF_KEYS = frozenset({PROVEN_IDENTITY})
"""The keys that a proof adds, once a rule has matched: they can be extracted, not matched."""

MATCH_KEYS = VIEW_KEYS | {"oui", "subnet"}

MAX_PATTERN = 255
_MAX_STATES = 20_000
_WILD = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"\[!?\]?[^\]]*\]|.", re.S)
_OTHER = "\U0010ffff"


class RuleError(ValueError):
    """A part of a rule is invalid; the text is a phrase with the remedy."""


class TooComplex(Exception):
    """Patterns were not compared to the end: that would cost more than it may."""


class Effort:
    """What the comparison of patterns may still cost.

    left: steps of a search, some 1 µs each; 0 after it was given up.
    """

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Take so many steps.  Raises TooComplex."""
        self.left = max(0, self.left - steps)
        if not self.left:
            raise TooComplex


def known_key(key: str, known: Collection[str]) -> str:
    """Return the key as views have it.  Raises RuleError."""
    if is_free_key(key.lower()):
        return key.lower()
    if key in known:
        return key
    near = difflib.get_close_matches(key, known, 1)
    every = (*sorted(known), *(f"{word}.*" for word in sorted(FREE_WORDS)))
    hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(every)}"
    raise RuleError(f"unknown key: {hint}")


def is_free_key(key: str) -> bool:
    """Whether a key is one that a source makes of what a device says.  key: in lower case."""
    word, _, rest = key.partition(".")
    return word in FREE_WORDS and bool(re.fullmatch(r"[\x21-\x7e]{1,64}", rest))


@dataclass(frozen=True)
class Glob:
    """A pattern, in lower case."""

    text: str

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(translate(self.text))

    @property
    def literal(self) -> bool:
        """Whether it matches exactly one value."""
        return not _WILD.search(self.text)

    def matches(self, value: str) -> bool:
        """Whether the whole value fits.  value: in lower case, at most 255 characters."""
        return self.text == "*" or bool(self._regex.match(value))

    def covers(self, other: Glob | Subnet, effort: Effort) -> bool:
        """Whether it matches every value that the other one matches.  Raises TooComplex.

        Exact, unless these two are so complex that the search is given up: then False.
        """
        effort.spend(1)
        if self.text == "*":
            return True
        if isinstance(other, Subnet):
            return False
        return self.matches(other.text) if other.literal else _covers(self.text, other.text, effort)


@dataclass(frozen=True)
class Subnet:
    """An IP network."""

    network: IPv4Network | IPv6Network

    def matches(self, value: str) -> bool:
        """Whether the value is an address inside the network."""
        try:
            return ip_address(value) in self.network
        except ValueError:
            return False

    def covers(self, other: Glob | Subnet, effort: Effort) -> bool:
        """Whether the other network lies inside this one.  Raises TooComplex."""
        effort.spend(1)
        if isinstance(other, Glob):
            return False
        ours, theirs = self.network, other.network
        if isinstance(ours, IPv4Network):
            return isinstance(theirs, IPv4Network) and theirs.subnet_of(ours)
        return isinstance(theirs, IPv6Network) and theirs.subnet_of(ours)


Pattern: TypeAlias = Glob | Subnet


@dataclass(frozen=True, slots=True)
class Predicate:
    """A key, and patterns of which one has to match."""

    key: str
    patterns: tuple[Pattern, ...]
    reads: str = field(init=False)

    def __post_init__(self) -> None:
        reads = {"oui": "mac", "subnet": "address"}.get(self.key, self.key)
        object.__setattr__(self, "reads", reads)

    def holds(self, view: Mapping[str, str]) -> bool:
        """Whether it holds for a view."""
        if self.reads == "address" and "addresses" in view:
            values = view["addresses"].split()
        else:
            value = normalised(self.reads, view)
            values = [] if value is None else [value]
        return any(pattern.matches(value) for value in values for pattern in self.patterns)

    def covers(self, other: Predicate, effort: Effort) -> bool:
        """Whether it holds for every view for which the other one holds.  Raises TooComplex."""
        effort.spend(1)
        return self.reads == other.reads and all(
            any(ours.covers(theirs, effort) for ours in self.patterns) for theirs in other.patterns
        )


def normalised(key: str, view: Mapping[str, str]) -> str | None:
    """Return the value of a key in a view, as patterns compare it; None where it is absent.

    A source counts without its interface, a MAC as 12 hex digits.
    """
    value = view.get(key)
    if value is None:
        return None
    value = value[:MAX_VALUE].lower()
    if key == "mac":
        return mac(value) or None
    return value.partition("/")[0] if key == "source" else value


def parse_predicate(key: str, texts: Collection[str]) -> Predicate:
    """Make the predicate of one key of `match`.  Raises RuleError."""
    key = known_key(key, MATCH_KEYS)
    if not texts:
        raise RuleError("an empty list never matches: name at least one pattern")
    return Predicate(key, tuple(_pattern(key, text) for text in texts))


def _pattern(key: str, text: str) -> Pattern:
    if not 0 < len(text) <= MAX_PATTERN:
        raise RuleError(f"a pattern has 1 to {MAX_PATTERN} characters")
    if key == "subnet":
        return _subnet(text)
    text = text.lower()
    if key in ("mac", "oui"):
        text = re.sub(r"[:.-](?![^\[]*\])", "", text)
    if key == "oui":
        if not re.fullmatch(r"[0-9a-f]{6}", text):
            raise RuleError("an OUI has 6 hex digits, as 00:17:88")
        text += "*"
    return Glob(text)


def _subnet(text: str) -> Subnet:
    try:
        return Subnet(ip_network(text))
    except ValueError:
        raise RuleError("not an IP network without host bits, as 10.1.0.0/16") from None


def _covers(ours: str, theirs: str, effort: Effort) -> bool:
    """Whether `ours` accepts each word that `theirs` generates."""
    mine, other = _TOKEN.findall(ours), _TOKEN.findall(theirs)
    sets = map(chr, range(0x20, 0x7F)) if "[" in ours + theirs else ()
    alphabet = {*sets, *ours, *theirs, _OTHER}
    my_stars, my_masks = _masks(mine, alphabet)
    other_stars, other_masks = _masks(other, alphabet)
    # characters that neither pattern distinguishes are tried once
    letters = {(my_masks[c], other_masks[c]) for c in alphabet}
    todo = [(0, _closure(my_stars, 1))]
    seen = set(todo)
    while todo:
        at, states = todo.pop()
        if at == len(other):
            if not states >> len(mine) & 1:
                return False
            continue
        effort.spend(len(letters))
        star = other_stars >> at & 1
        reached = {(at + 1, states)} if star else set()
        reached |= {
            (at if star else at + 1, _closure(my_stars, (states & my) << 1 | states & my_stars))
            for my, generated in letters
            if star or generated >> at & 1
        }
        todo += reached - seen
        seen |= reached
        if len(seen) > _MAX_STATES:
            return False
    return True


def _masks(parts: list[str], alphabet: Collection[str]) -> tuple[int, Mapping[str, int]]:
    """Return at which places of a pattern a star is, and each character is accepted; as bits."""
    stars = anything = 0
    masks, sets = dict.fromkeys(alphabet, 0), dict[str, int]()
    for place, part in enumerate(parts):
        bit = 1 << place
        if part == "*":
            stars |= bit
        elif part == "?":
            anything |= bit
        elif len(part) == 1:
            masks[part] |= bit
        else:
            sets[part] = sets.get(part, 0) | bit
    for part, bits in sets.items():
        matches = re.compile(translate(part)).match
        for char in alphabet:
            masks[char] |= bits if matches(char) else 0
    return stars, {char: mask | anything for char, mask in masks.items()}


def _closure(stars: int, states: int) -> int:
    """Add the states that are reached because `*` also matches nothing; as bits."""
    while new := (states & stars) << 1 & ~states:
        states |= new
    return states
