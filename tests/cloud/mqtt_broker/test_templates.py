"""What a child is at a broker, by the templates of its configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.mqtt_broker.templates import (
    BrokerTemplates,
    name_template,
    part_fault,
    topic_template,
)
from gatewayd.device.record import CloudName

DEFAULTS = BrokerTemplates(
    "{product}-{device}", "{product}-{device}", "devices/{product}/{device}/up/{topic}",
    "devices/{product}/{device}/down/{topic}",
)  # fmt: skip
PARTS = st.text("abcXYZ019._-", min_size=1, max_size=64).filter(lambda text: not part_fault(text))


def test_a_child_has_names_and_topics_of_its_own() -> None:
    identity = DEFAULTS.identity(CloudName("plant", "meter", "PM-1"))
    assert (identity.client_id, identity.user) == ("meter-PM-1", "meter-PM-1")
    assert (identity.up, identity.down) == ("devices/meter/PM-1/up/", "devices/meter/PM-1/down/")


@given(PARTS, PARTS, PARTS, PARTS)
def test_two_children_never_have_one_topic(a: str, b: str, c: str, d: str) -> None:
    one, other = (DEFAULTS.identity(CloudName("plant", *of)) for of in ((a, b), (c, d)))
    assert (one.up == other.up) == ((a, b) == (c, d))
    assert not other.up.startswith(one.up) or (a, b) == (c, d)


@given(st.text(max_size=80))
def test_a_part_can_be_no_wildcard_and_no_level(text: str) -> None:
    if not part_fault(text):
        assert not set(text) & set("+#/${}\0 ")
        assert text.isascii()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{product}-{device}", ""), ("{device}", ""), ("site7.{device}", ""),
        ("{product}", "must have {device}"), ("", "must have {device}"),
        ("/{device}", "begin and end with no /"), ("{product}//{device}", "none beside another"),
        ("{serial}{device}", "unknown field '{serial}'"),
        ("{device}+", "letters"), ("a b{device}", "letters"), ("{device", "letters"),
        ("x" * 300 + "{device}", "at most 256"), ("{{device}}", "letters"), ("{topic}", "unknown"),
    ],
)  # fmt: skip
def test_templates_of_names(text: str, fault: str) -> None:
    assert fault in name_template(text)
    assert bool(fault) == bool(name_template(text))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("d/{device}/{topic}", ""), ("{device}/{topic}", ""),
        ("a/{product}.{device}/up/{topic}", ""),
        ("d/{topic}", "must have {device}"), ("d/{device}", "must end with /{topic}"),
        ("d/{device}{topic}", "must end with /{topic}"), ("/{device}/{topic}", "levels"),
        ("a//{device}/{topic}", "levels"), ("{topic}/{device}/{topic}", "must end"),
        ("$SYS/{device}/{topic}", "letters"), ("+/{device}/{topic}", "letters"),
        ("a/" * 20 + "{device}/{topic}", "levels"),
    ],
)  # fmt: skip
def test_templates_of_topics(text: str, fault: str) -> None:
    assert fault in topic_template(text)
    assert bool(fault) == bool(topic_template(text))


SHARED = "two children of several products"


@pytest.mark.parametrize(
    ("changed", "several", "fault"),
    [
        ({}, True, ""),
        ({"up": "a/{device}/{topic}", "down": "b/{device}/{topic}"}, False, ""),
        ({"up": "a/{device}/{topic}", "down": "b/{device}/{topic}"}, True, SHARED),
        ({"up": "a/{product}-{device}/{topic}"}, True, SHARED),
        ({"up": "a/p.{product}/{product}{device}/{topic}"}, True, ""),
        ({"client_id": "{device}"}, True, SHARED),
        ({"client_id": "{device}"}, False, ""),
        ({"client_id": "{device}", "user": "{device}"}, True, ""),
        ({"up": "{device}/{topic}", "down": "{product}/{device}/{topic}"}, False, "one topic"),
        ({"up": "d/{device}/{topic}", "down": "d/{device}/down/{topic}"}, False, "one topic"),
        ({"up": "d/{device}/{topic}", "down": "d/{device}/{topic}"}, False, "one topic"),
    ],
)
def test_templates_that_give_two_children_one_place(
    changed: dict[str, str], several: bool, fault: str
) -> None:
    found = list(replace(DEFAULTS, **changed).mistakes(several=several))
    assert bool(found) == bool(fault)
    assert all(fault in one for one in found)


LEVELS = st.lists(
    st.sampled_from(["up", "down", "{device}", "{product}", "{product}-{device}", "x{device}"]),
    min_size=1, max_size=4,
)  # fmt: skip
NAMES = st.tuples(*[st.sampled_from(["a", "up", "a-b", "b-c", "c", "xc"])] * 2)


@given(LEVELS, LEVELS, NAMES, NAMES)
def test_no_child_uses_a_topic_of_another_where_there_is_no_mistake(
    up: list[str], down: list[str], one: tuple[str, str], other: tuple[str, str]
) -> None:
    topics = ["/".join([*levels, "{topic}"]) for levels in (up, down)]
    templates = BrokerTemplates("{device}", "{device}", *topics)
    if one == other or any(map(topic_template, topics)) or list(templates.mistakes(several=True)):
        return
    first, second = (templates.identity(CloudName("plant", *of)) for of in (one, other))
    for mine in (first.up, first.down):
        for its in (second.up, second.down):
            assert not mine.startswith(its)
    assert not first.up.startswith(first.down)
    assert not first.down.startswith(first.up)
