"""A name is made of fields that are extracted from whole values; it is usable, or refused."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.admission.policy.naming import (
    MAX_NAME,
    compile_bounded,
    parse_extraction,
    parse_template,
)
from gatewayd.admission.policy.patterns import RuleError


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


@pytest.mark.parametrize(
    ("field", "text", "view", "found"),
    [
        ("mac", "instance ~ .*-([0-9a-fA-F]{12})", {"instance": "x-A8032ABE54DC"}, "a8032abe54dc"),
        ("mac", "txt.bridgeid|mac", {"txt.bridgeid": "ecb5fafffe123456"}, "ecb5fa123456"),
        ("mac", "txt.bridgeid|mac", {"mac": "ec:b5:fa:12:34:56"}, "ecb5fa123456"),
        ("mac", "mac", {"mac": "ff:ff:ff:ff:ff:ff"}, ""),
        ("mac", "mac", {"mac": "00:12:4b:00:14:b5:5d:f2"}, "00124b0014b55df2"),
        ("mac", "txt.macs", {"txt.macs": "none, a8032abe54dc;A8:03:2A:BE:54:DD"}, "a8032abe54dc"),
        ("uuid", "txt.u", {"txt.u": "00000000-0000-0000-0000-000000000000"}, ""),
        ("serial", "txt.a|txt.b", {"txt.a": "Default string", "txt.b": "A-1"}, "A-1"),
        ("serial", "txt.sn", {"txt.sn": "AB-0042"}, "AB-0042"),
        ("serial", "txt.SN", {"txt.sn": "AB-0042"}, "AB-0042"),
        ("serial", "txt.sn ~ [A-Z0-9-]{4,20}", {"txt.sn": "AB-0042"}, "AB-0042"),
        ("serial", "txt.sn ~ [A-Z0-9-]{4,20}", {"txt.sn": "../../etc\n0042"}, ""),
        ("serial", "txt.sn ~ [A-Z0-9-]{4,20}", {"txt.sn": "AB-0042\n"}, ""),
        ("serial", "txt.sn ~ (a)?b", {"txt.sn": "b"}, ""),
        ("serial", "txt.sn", {}, ""),
        ("serial", "txt.sn", {"txt.sn": "x" * 256}, ""),
    ],
)
def test_a_field_is_found_whole_or_not_at_all(
    field: str, text: str, view: dict[str, str], found: str
) -> None:
    assert parse_extraction(field, text).of(view) == found


@pytest.mark.parametrize("field", ["serial", "uuid"])
def test_what_many_devices_show_is_no_identity(field: str) -> None:
    extraction = parse_extraction(field, "txt.sn|txt.id")
    assert extraction.of({"txt.sn": "Default string", "txt.id": "A-7"}) == "A-7"
    assert extraction.of({"txt.sn": "0000000000000000"}) == ""
    assert parse_extraction("model", "txt.sn").of({"txt.sn": "00000000"}) == "00000000"


@pytest.mark.parametrize(
    "regex",
    [
        r".*-([0-9a-fA-F]{12})",
        r"urn:uuid:([0-9a-fA-F-]{36})",
        r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}",
        r"(?:meter|pump)-(\d+)",
        r"([A-Z]{2}(?:-[A-Z0-9]{4}){3})",
        r".*?-(.*)",
        r"(?i)sn[a-z0-9]{1,30}",
        r"^x[^-]+$",
    ],
)
def test_usual_regexes_are_accepted(regex: str) -> None:
    assert compile_bounded(regex).pattern == regex


@pytest.mark.parametrize(
    "regex",
    [
        r"(\w+)*-x",
        r"(?:a|ab)*c",
        r"(?:a?){30}a{30}",
        r".*.*.*x",
        r"(?:(?:x{1,9}){1,9}){1,9}",
        r"(?:a|b?)+",
    ],
)
def test_regexes_that_could_take_long_are_refused(regex: str) -> None:
    with pytest.raises(RuleError, match="too long"):
        compile_bounded(regex)


@pytest.mark.parametrize(
    ("regex", "fault"),
    [
        ("(", "invalid regex"),
        ("[[a]", "invalid regex"),
        ("", "1 to 255"),
        ("a" * 256, "1 to 255"),
        ("(a)(b)", "one group"),
        (r"(a)\1", "back-references"),
        ("(?=a)a", "look-around"),
        ("(?<!a)b", "look-around"),
        ("(?>a+)b", "look-around"),
        ("a{300}", "repeat less often"),
    ],
)
def test_what_is_no_simple_regex_is_refused(regex: str, fault: str) -> None:
    with pytest.raises(RuleError, match=fault):
        compile_bounded(regex)


@pytest.mark.parametrize(
    ("field", "text"), [("Mac", "mac"), ("mac", "oui"), ("mac", "mca"), ("mac", ""), ("", "mac")]
)
def test_fields_and_keys_are_checked(field: str, text: str) -> None:
    with pytest.raises(RuleError):
        parse_extraction(field, text)


@given(st.text(alphabet="ab.*+?(){}[]|2,3:\\d^$", max_size=20))
def test_any_text_is_a_bounded_regex_or_refused(text: str) -> None:
    try:
        regex = compile_bounded(text)
    except RuleError:
        return
    assert isinstance(regex, re.Pattern)
    regex.fullmatch("a" * 255)
    regex.fullmatch("ab" * 127 + "!")
