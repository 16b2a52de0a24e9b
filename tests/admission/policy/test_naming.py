"""A name is made of extracted identity, usable as it is, or refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.admission.policy.patterns import RuleError
from gatewayd.admission.policy.rules import MAX_NAME, parse_template


@pytest.mark.parametrize(
    ("text", "fields", "name"),
    [
        ("pm-{serial}", {"serial": "AB-0042"}, "pm-AB-0042"),
        ("pm-{serial|lower}", {"serial": "AB-0042"}, "pm-ab-0042"),
        ("{serial|upper|last4}", {"serial": "ab-0042f"}, "042F"),
        ("{a}.{b}", {"a": "x", "b": "y"}, "x.y"),
        ("c-{u|hash12}", {"u": "ü"}, "c-" + hashlib.sha256("ü".encode()).hexdigest()[:12]),
    ],
)
def test_a_template_is_filled(text: str, fields: dict[str, str], name: str) -> None:
    assert parse_template(text, fields).fill(fields) == name


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("meter", "two devices"),
        ("{serial", "unbalanced"),
        ("serial}", "unbalanced"),
        ("{{serial}}", "unbalanced"),
        ("{model}", "unknown field"),
        ("{serial.__class__}", "unknown field"),
        ("{serial!r}", "unknown field"),
        ("{}", "unknown field"),
        ("{serial|strip}", "unknown filter"),
        ("a b-{serial}", "only letters"),
    ],
)
def test_a_bad_template_is_refused(text: str, fault: str) -> None:
    with pytest.raises(RuleError, match=fault):
        parse_template(text, ["serial"])


@pytest.mark.parametrize(
    "serial", ["", "../../etc\n0042", "a b", "-x", "x" * (MAX_NAME + 1), "ä", "a\u202eb", "a/b"]
)
def test_an_unusable_name_is_refused_without_its_value(serial: str) -> None:
    with pytest.raises(RuleError) as refused:
        parse_template("{serial}", ["serial"]).fill({"serial": serial})
    assert not serial or serial not in str(refused.value)


@given(st.text(max_size=80))
def test_a_name_holds_the_value_unchanged(serial: str) -> None:
    try:
        name = parse_template("pm-{serial}", ["serial"]).fill({"serial": serial})
    except RuleError:
        return
    assert name == f"pm-{serial}"
    assert name.isascii()
