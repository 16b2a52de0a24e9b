"""Topics: as the vendor's table has them, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.alibaba import alink
from gatewayd.cloud.alibaba.alink import DownlinkTopic, SubName
from gatewayd.device.record import CloudName

GATEWAY = CloudName("cloud", "gwPK", "gwDN")
OWN, CHILD = SubName("gwPK", "gwDN"), SubName("subPK", "sub:DN")

SUBSCRIBED = {
    "/sys/gwPK/gwDN/thing/sub/register_reply",
    "/sys/gwPK/gwDN/thing/proxy/provisioning/product_register_reply",
    "/sys/gwPK/gwDN/thing/topo/add_reply",
    "/sys/gwPK/gwDN/thing/topo/delete_reply",
    "/sys/gwPK/gwDN/thing/topo/get_reply",
    "/sys/gwPK/gwDN/thing/list/found_reply",
    "/ext/session/gwPK/gwDN/combine/login_reply",
    "/ext/session/gwPK/gwDN/combine/batch_login_reply",
    "/ext/session/gwPK/gwDN/combine/logout_reply",
    "/ext/session/gwPK/gwDN/combine/batch_logout_reply",
    "/sys/gwPK/gwDN/thing/topo/add/notify",
    "/sys/gwPK/gwDN/thing/topo/change",
    "/sys/gwPK/gwDN/thing/gateway/permit",
    "/ext/error/gwPK/gwDN",
}


def test_what_a_gateway_subscribes_to() -> None:
    wanted = alink.gateway_topics(GATEWAY)
    assert set(wanted) == SUBSCRIBED
    assert len(wanted) == len(SUBSCRIBED)


def test_what_a_gateway_subscribes_to_for_a_child() -> None:
    wanted = ("/sys/subPK/sub:DN/thing/disable", "/sys/subPK/sub:DN/thing/delete")
    assert alink.child_topics(CHILD) == wanted


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("/sys/gwPK/gwDN/thing/topo/add/notify", DownlinkTopic(alink.TOPO_NOTIFY, OWN)),
        ("/sys/gwPK/gwDN/thing/topo/change", DownlinkTopic(alink.TOPO_CHANGE, OWN)),
        ("/sys/gwPK/gwDN/thing/gateway/permit", DownlinkTopic(alink.PERMIT, OWN)),
        ("/ext/error/gwPK/gwDN", DownlinkTopic(alink.ERROR, OWN)),
        ("/sys/subPK/sub:DN/thing/disable", DownlinkTopic(alink.DISABLE, CHILD)),
        ("/sys/subPK/sub:DN/thing/enable", DownlinkTopic(alink.ENABLE, CHILD)),
        ("/sys/subPK/sub:DN/thing/delete", DownlinkTopic(alink.DELETE, CHILD)),
        ("/sys/gwPK/gwDN/thing/delete", None),
        ("/sys/subPK/sub:DN/thing/topo/change", None),
        ("/sys/gwPK/gwDN/thing/topo/change_reply", None),
        ("/ext/error/subPK/subDN", None),
        ("/sys/gwPK/gwDN/thing/topo/change/", None),
        ("sys/gwPK/gwDN/thing/topo/change", None),
        ("", None),
    ],
)
def test_what_the_cloud_asks(topic: str, expected: DownlinkTopic | None) -> None:
    assert alink.downlink_topic(topic, GATEWAY) == expected


def test_where_the_cloud_is_answered() -> None:
    asked = DownlinkTopic(alink.TOPO_CHANGE, OWN)
    assert alink.answer_topic(asked) == "/sys/gwPK/gwDN/thing/topo/change_reply"


@given(st.text(max_size=200))
def test_no_topic_is_too_odd(topic: str) -> None:
    assert alink.downlink_topic(topic, GATEWAY) is None
    assert alink.is_reply(topic) == topic.endswith("_reply")
