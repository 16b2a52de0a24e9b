"""Topics of gatewayd's own broker: what a child says, and where its receipt may go."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatewayd.messages.doors.packets import MAX_CORRELATION, PublishPacket
from gatewayd.messages.doors.translation import ChildMessage, OwnTopics, Receipt, Unread
from tests.messages.doors.intakes import CHILD, OTHER, Children

TOPICS = OwnTopics(Children())


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (f"c/{CHILD}/up/properties", ChildMessage(CHILD, "properties", b"1")),
        (f"c/{CHILD}/up/thing/event/property/post",
         ChildMessage(CHILD, "thing/event/property/post", b"1")),
        (f"c/{CHILD}/up//x/", ChildMessage(CHILD, "/x/", b"1")),
        (f"c/{CHILD}/up/ü", ChildMessage(CHILD, "ü", b"1")),
        (f"c/{CHILD}/up/", Unread.TOPIC),
        (f"c/{CHILD}/up", Unread.TOPIC),
        (f"c/{CHILD}/down/x", Unread.TOPIC),
        (f"d/{CHILD}/up/x", Unread.TOPIC),
        (f"c/{CHILD}/up/\x07", Unread.TOPIC),
        (f"c/{CHILD}/up/{'x' * 257}", Unread.TOPIC),
        ("c//up/x", Unread.TOPIC),
        ("", Unread.TOPIC),
        ("c/child-ffffffffffff/up/x", Unread.UNKNOWN_CHILD),
        ("c/../up/x", Unread.UNKNOWN_CHILD),
    ],
)  # fmt: skip
def test_what_a_child_says(topic: str, expected: object) -> None:
    assert TOPICS.translate(PublishPacket(topic, b"1")) == expected


def asked(response: str, topic: str = f"c/{CHILD}/up/x", correlation: bytes = b"7") -> object:
    return TOPICS.receipt(
        PublishPacket(topic, b"1", response_topic=response, correlation=correlation)
    )


@pytest.mark.parametrize(
    "response",
    ["", f"c/{CHILD}/down", f"c/{CHILD}/down/", f"c/{CHILD}/up/x", f"c/{OTHER}/down/x",
     f"c/{CHILD}/down/+", f"c/{CHILD}/down/#", f"c/{CHILD}/down/{'x' * 300}", "c//down/x",
     f"c/{CHILD}/../{OTHER}/down/x", f"d/{CHILD}/down/x", "$SYS/x"],
)  # fmt: skip
def test_a_receipt_goes_nowhere_else(response: str) -> None:
    assert asked(response) is None


def test_a_receipt_repeats_what_the_publisher_gave() -> None:
    assert asked(f"c/{CHILD}/down/r/1") == Receipt(f"c/{CHILD}/down/r/1", b"7")
    longest = bytes(MAX_CORRELATION)
    assert asked(f"c/{CHILD}/down/r", correlation=longest) == Receipt(f"c/{CHILD}/down/r", longest)
    assert asked(f"c/{CHILD}/down/r", correlation=longest + b"1") is None


LEVEL = st.sampled_from(["c", CHILD, OTHER, "up", "down", "x", "", "+", "#", "$SYS"])
TOPIC = st.lists(LEVEL, max_size=6).map("/".join)


@given(TOPIC, TOPIC)
@example(f"c/{CHILD}/up/x", f"c/{CHILD}/down/{OTHER}")
def test_no_child_speaks_to_another_by_a_receipt(topic: str, response: str) -> None:
    receipt = asked(response, topic)
    if isinstance(receipt, Receipt):
        child = topic.split("/")[1]
        assert topic.startswith(f"c/{child}/up/")
        assert receipt.topic.startswith(f"c/{child}/down/")
        assert not set(receipt.topic) & set("+#")
