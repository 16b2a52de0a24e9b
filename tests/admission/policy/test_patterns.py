"""Globs are anchored and bounded, and one pattern is known to cover another."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.admission.policy.patterns import (
    Effort,
    Glob,
    RuleError,
    TooComplex,
    parse_predicate,
)

STEPS = 3_000_000

GLOBS = st.text(alphabet="ab*?", max_size=6)
CLASSES = st.lists(st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "[a-z]"]), max_size=4).map(
    "".join
)
WORDS = ["".join(letters) for n in range(5) for letters in product("abc", repeat=n)]


@pytest.mark.parametrize(
    ("key", "pattern", "view", "holds"),
    [
        ("service", "_shelly._tcp", {"service": "_Shelly._TCP"}, True),
        ("service", "_shelly", {"service": "_shelly._tcp"}, False),
        ("service", "shelly._tcp", {"service": "_shelly._tcp"}, False),
        ("model", "ds-2cd*", {"model": "DS-2CD2043"}, True),
        ("model", "3[0-9][0-9]", {"model": "13000"}, False),
        ("model", "a.c", {"model": "abc"}, False),
        ("model", "*", {"model": ""}, True),
        ("model", "*", {}, False),
        ("txt.GEN", "2", {"txt.gen": "2"}, True),
        ("source", "mdns", {"source": "mdns/eth1"}, True),
        ("mac", "A8:03:2A:*", {"mac": "a8-03-2a-be-54-dc"}, True),
        ("mac", "*", {"mac": "no mac"}, False),
        ("oui", "00:17:88", {"mac": "00:17:88:01:02:03"}, True),
        ("oui", "00:17:88", {"mac": "00:17:89:01:02:03"}, False),
        ("oui", "00:17:88", {"service": "001788"}, False),
        ("subnet", "10.1.0.0/16", {"address": "10.1.2.3"}, True),
        ("subnet", "10.1.0.0/16", {"address": "10.2.2.3"}, False),
        ("subnet", "10.1.0.0/16", {"address": "fe80::1"}, False),
        ("subnet", "10.1.0.0/16", {"address": "10.1.2.3.evil"}, False),
        ("subnet", "fd00::/8", {"address": "fd12::1"}, True),
        ("port", "80*", {"port": "8080"}, True),
    ],
)  # fmt: skip
def test_a_predicate_matches_whole_values(
    key: str, pattern: str, view: dict[str, str], holds: bool
) -> None:
    assert parse_predicate(key, [pattern]).holds(view) is holds


@pytest.mark.parametrize(
    ("key", "pattern", "holds"),
    [
        ("subnet", "10.77.0.0/16", True), ("subnet", "fe80::/10", True),
        ("subnet", "192.168.0.0/16", False), ("address", "10.77.*", True),
        ("address", "10.9.0.1", True), ("address", "10.77.1.6", False), ("address", "*", True),
    ],
)  # fmt: skip
def test_any_of_several_addresses_matches(key: str, pattern: str, holds: bool) -> None:
    view = {"address": "10.9.0.1", "addresses": "10.9.0.1 10.77.1.60 fe80::1"}
    assert parse_predicate(key, [pattern]).holds(view) is holds


def test_a_list_means_any_of() -> None:
    either = parse_predicate("txt.gen", ["2", "3"])
    assert either.holds({"txt.gen": "3"})
    assert not either.holds({"txt.gen": "4"})


def test_a_value_is_cut_before_it_is_compared() -> None:
    assert parse_predicate("model", ["a" * 255]).holds({"model": "a" * 1000})


@pytest.mark.parametrize(
    ("key", "patterns", "fault"),
    [
        ("servcie", ["x"], "did you mean 'service'"),
        ("txt.", ["x"], "unknown key"),
        ("sdp.server", ["x"], "ssdp.*"),
        ("birth.id", ["x"], "mqtt.*"),
        ("model", [], "empty list"),
        ("model", [""], "1 to 255"),
        ("model", ["a" * 256], "1 to 255"),
        ("oui", ["0017"], "6 hex digits"),
        ("subnet", ["10.1.2.3/16"], "host bits"),
    ],
)
def test_what_cannot_be_used_says_why(key: str, patterns: list[str], fault: str) -> None:
    with pytest.raises(RuleError, match=fault):
        parse_predicate(key, patterns)


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ("*", "a*b", True),
        ("a*", "ab*", True),
        ("a*", "*a", False),
        ("a?c", "abc", True),
        ("a?c", "a*c", False),
        ("[a-c]x", "bx", True),
        ("[a-c]x", "[ab]x", True),
        ("[ab]x", "[a-c]x", False),
        ("?*", "*?", True),
        ("*a*b*", "*ab*", True),
        ("[!a]*", "b*", True),
    ],
)
def test_one_glob_covers_another(wide: str, narrow: str, covered: bool) -> None:
    assert Glob(wide).covers(Glob(narrow), Effort(STEPS)) is covered


@given(wide=GLOBS | CLASSES, narrow=GLOBS | CLASSES)
def test_a_glob_covers_no_other_that_matches_more(wide: str, narrow: str) -> None:
    more = [w for w in WORDS if fnmatchcase(w, narrow) and not fnmatchcase(w, wide)]
    assert not (more and Glob(wide).covers(Glob(narrow), Effort(STEPS)))


@given(glob=GLOBS | CLASSES)
def test_every_glob_covers_itself(glob: str) -> None:
    assert Glob(glob).covers(Glob(glob), Effort(STEPS))


@given(wide=st.text(alphabet="ab?", max_size=5), narrow=st.text(alphabet="ab?", max_size=5))
def test_covering_is_found_where_it_can_be_enumerated(wide: str, narrow: str) -> None:
    words = [""]
    for letter in narrow:
        words = [word + c for word in words for c in ("abc" if letter == "?" else letter)]
    covered = all(fnmatchcase(word, wide) for word in words)
    assert Glob(wide).covers(Glob(narrow), Effort(STEPS)) is covered


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        (("subnet", "10.0.0.0/8"), ("subnet", "10.1.0.0/16"), True),
        (("subnet", "10.1.0.0/16"), ("subnet", "10.0.0.0/8"), False),
        (("subnet", "10.0.0.0/8"), ("subnet", "fd00::/8"), False),
        (("subnet", "fd00::/8"), ("subnet", "fd12::/16"), True),
        (("address", "*"), ("subnet", "10.0.0.0/8"), True),
        (("address", "10.*"), ("subnet", "10.0.0.0/8"), False),
        (("subnet", "10.0.0.0/8"), ("address", "10.1.2.3"), False),
        (("oui", "00:17:88"), ("mac", "00:17:88:aa:*"), True),
        (("mac", "00:17:88:aa:*"), ("oui", "00:17:88"), False),
        (("model", "*"), ("vendor", "x"), False),
    ],
)
def test_predicates_cover_one_another(
    wide: tuple[str, str], narrow: tuple[str, str], covered: bool
) -> None:
    one, other = parse_predicate(wide[0], [wide[1]]), parse_predicate(narrow[0], [narrow[1]])
    assert one.covers(other, Effort(STEPS)) is covered


def test_an_intricate_search_is_given_up() -> None:
    tail = "a" + "?" * 20
    assert not Glob(f"*{tail}").covers(Glob(f"a*{tail}"), Effort(STEPS))


def test_a_search_costs_no_more_than_it_may() -> None:
    intricate = Glob("*a?b*[a-z]?a" * 20)
    with pytest.raises(TooComplex):
        intricate.covers(Glob("*" + intricate.text), Effort(1000))


def test_letters_that_mean_the_same_are_tried_once() -> None:
    """With all printable characters each for itself, this would cost a hundred times as much."""
    tail = "[a-f][0-9]" * 4
    assert Glob(f"*{tail}").covers(Glob(f"x*{tail}"), Effort(20_000))
