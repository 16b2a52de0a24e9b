"""Patterns of topics: what fits, what it says, and which subscriptions are needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.messages.doors.site.topic_pattern import (
    BadPattern,
    TopicPattern,
    without_overlap,
)
from gatewayd.network.mqtt_rules import covers


@pytest.mark.parametrize(
    ("pattern", "topic", "found"),
    [
        ("zigbee2mqtt/{name}", "zigbee2mqtt/kitchen", {"name": "kitchen"}),
        ("zigbee2mqtt/{name}", "zigbee2mqtt/kitchen/set", None),
        ("zigbee2mqtt/{name}", "zigbee2mqtt/", None),
        ("shelly-{mac}/#", "shelly-a8032a/events/rpc", {"mac": "a8032a"}),
        ("shelly-{mac}/#", "shelly-/events/rpc", None),
        ("shelly-{mac}/#", "shelly-a8", {"mac": "a8"}),
        ("x{id}y/+", "xay/z", {"id": "a"}),
        ("x{id}y/+", "xy/z", None),
        ("{name}/{key}/state", "a/b/state", {"name": "a", "key": "b"}),
        ("te/{name}/+/+/m/+", "te/a///m/t", {"name": "a"}),
        ("+/x", "$SYS/x", None),
        ("#", "$SYS/x", None),
        ("$SYS/{name}", "$SYS/x", {"name": "x"}),
        ("a/b", "a/b", {}),
        ("a/b", "a/c", None),
        ("a/#", "a", {}),
    ],
)
def test_what_a_topic_says(pattern: str, topic: str, found: dict[str, str] | None) -> None:
    assert TopicPattern(pattern).match(topic) == found


def test_a_pattern_is_subscribed_to_by_its_filter() -> None:
    assert TopicPattern("a-{mac}/+/{key}/#").filter == "+/+/+/#"


@pytest.mark.parametrize(
    "pattern",
    ["", "a/#/b", "a#", "a+/b", "{x}", "{name}{mac}", "{name}/{mac}", "{key}/{key}",
     "{name}+", "{name", "name}", "a" * 600, "a\n"],
)  # fmt: skip
def test_a_pattern_that_is_none(pattern: str) -> None:
    with pytest.raises(BadPattern):
        TopicPattern(pattern)


LEVEL = st.sampled_from(["a", "b", "", "+"])
FILTER = st.builds(
    lambda levels, rest: "/".join([*levels, "#"] if rest else levels),
    st.lists(LEVEL, min_size=1, max_size=4), st.booleans(),
)  # fmt: skip
TOPIC = st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=5).map("/".join)


@given(FILTER, FILTER, TOPIC)
def test_a_filter_that_covers_another_fits_all_its_topics(
    wide: str, narrow: str, topic: str
) -> None:
    if not (wide and narrow and topic):
        return
    if covers(wide, narrow) and TopicPattern(narrow).match(topic) is not None:
        assert TopicPattern(wide).match(topic) is not None


@given(st.lists(FILTER.filter(bool), max_size=6), TOPIC.filter(bool))
def test_no_topic_is_lost_by_leaving_filters_out(filters: list[str], topic: str) -> None:
    def fits(some: object) -> bool:
        return any(TopicPattern(one).match(topic) is not None for one in some)  # type: ignore[attr-defined]  # an iterable

    assert fits(filters) == fits(without_overlap(filters))


def test_one_of_two_that_overlap_is_enough() -> None:
    assert without_overlap(["a/+", "a/b", "a/#", "c", "c"]) == ("a/#", "c")
    assert without_overlap(["#", "$SYS/x"]) == ("#", "$SYS/x")


@pytest.mark.parametrize(
    ("pattern", "texts", "topic"),
    [
        ("a/{name}/set", {"name": "kitchen"}, "a/kitchen/set"),
        ("a-{mac}-b/{key}", {"mac": "a8032a", "key": "p"}, "a-a8032a-b/p"),
        ("{mac|upper}/x", {"mac": "a8032a"}, "A8032A/x"),
        ("{serial|lower}", {"serial": "TH-1"}, "th-1"),
        ("a", {}, "a"),
        ("a/{name}", {}, ""),
        ("a/{name}", {"name": ""}, ""),
        ("a/{name}", {"name": "b/c"}, ""),
        ("a/{name}", {"name": "+"}, ""),
        ("a/{name}", {"name": "#"}, ""),
        ("a/{name}", {"name": "b\n"}, ""),
        ("a/{name}", {"name": "x" * 600}, ""),
    ],
)
def test_a_topic_is_made_of_what_identifies_a_child(
    pattern: str, texts: dict[str, str], topic: str
) -> None:
    assert TopicPattern(pattern).fill(texts) == topic


@pytest.mark.parametrize("pattern", ["a/{name|}", "a/{name|title}", "a/{|upper}"])
def test_other_forms_of_a_placeholder_are_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        TopicPattern(pattern)
