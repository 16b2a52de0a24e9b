"""Who speaks at gatewayd's own broker and is not admitted has proven that it may log in there."""

from __future__ import annotations

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.messages.doors.packets import PublishPacket
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from gatewayd.messages.doors.translation import OwnTopics, Unread
from tests.messages.broker.running import ONE, OTHER


class OneIsAdmitted:
    """The children that may speak."""

    def find(self, key: ChildKey, text: str) -> DeviceId | None:
        return ONE if (key, text) == (ChildKey.ID, ONE) else None


@pytest.mark.parametrize(
    ("topic", "retained", "strangers"),
    [
        (f"c/{OTHER}/up/x", False, [OTHER]),
        (f"c/{OTHER}/up/x", True, []),  # it may be old
        (f"c/{OTHER}/down/x", False, []),
        (f"d/{OTHER}/up/x", False, []),
        (f"c/{ONE}/up/x", False, []),
    ],
)
def test_a_stranger_is_reported_where_no_other_user_may_publish(
    topic: str, retained: bool, strangers: list[DeviceId]
) -> None:
    reported: list[DeviceId] = []
    topics = OwnTopics(OneIsAdmitted(), reported.append)
    said = topics.translate(PublishPacket(topic, b"{}", 1, retained=retained))
    assert reported == strangers
    assert (said is Unread.UNKNOWN_CHILD) is bool(strangers)
