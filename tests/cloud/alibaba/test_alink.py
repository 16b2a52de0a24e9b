"""Alink: what is sent is exact, what is received is read leniently and never trusted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.alibaba import alink
from gatewayd.cloud.alibaba.alink import (
    AddRequested,
    AlinkError,
    AlinkReply,
    DownlinkTopic,
    ForcedOff,
    PermitJoin,
    SubDeviceOrder,
    SubName,
    TopologyChange,
    TopologyChanged,
)
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


ONE, TWO = SubName("a1Child", "child-01"), SubName("b", "c@d:e.f_")
NAMED = [{"deviceName": "child-01", "productKey": "a1Child"}]
TOPICS = [
    DownlinkTopic(method, OWN) for method in (alink.TOPO_NOTIFY, alink.TOPO_CHANGE, alink.PERMIT)
] + [DownlinkTopic(method, ONE) for method in (alink.ENABLE, alink.DISABLE, alink.DELETE)]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["id", "code", "data", "params", "status", "subList", "time",
                         "productKey", "deviceName"]) | st.text(), inner,
    ),
)  # fmt: skip


def parse(method: str, params: object) -> object:
    message = {"id": "1", "version": "1.0", "params": params, "method": "x"}
    number, downlink = alink.parse_downlink(
        DownlinkTopic(method, OWN), json.dumps(message).encode()
    )
    assert number == "1"
    return downlink


def test_a_request() -> None:
    message = json.loads(alink.request(4294967295, alink.TOPO_ADD, [1]))
    method = {"method": "thing.topo.add"}
    assert message == {"id": "4294967295", "version": "1.0", "params": [1]} | method


@pytest.mark.parametrize("method", [m for m in alink.METHODS if m.startswith("combine")])
def test_a_request_about_sessions_names_no_method(method: str) -> None:
    assert json.loads(alink.request(1, method, {})) == {
        "id": "1",
        "version": "1.0",
        "params": {},
    }


def test_an_answer() -> None:
    assert json.loads(alink.answer("123")) == {"id": "123", "code": 200, "data": {}}


@pytest.mark.parametrize(
    ("message", "number", "reply"),
    [
        ({"id": "1", "code": 200, "message": "success", "data": {}}, "1", AlinkReply(200, {})),
        ({"id": 1, "code": "200", "data": []}, "1", AlinkReply(200, [])),
        ({"id": "abc", "code": 6401, "data": "text"}, "abc", AlinkReply(6401, "text")),
        ({"id": "1", "code": 460}, "1", AlinkReply(460, None)),
    ],
)
def test_a_reply(message: dict[str, Any], number: str, reply: AlinkReply) -> None:
    assert alink.parse_reply(json.dumps(message).encode()) == (number, reply)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"code": 200}',
        b'{"id": "1"}',
        b'{"id": "", "code": 200}',
        b'{"id": true, "code": 200}',
        b'{"id": "1", "code": true}',
        b'{"id": "1", "code": null}',
        b'{"id": "1", "code": 2e2}',
        b'{"id": "1", "code": NaN}',
        b'{"id": "1", "code": "0x10"}',
        b'{"id": "1", "code": "\xd9\xa2"}',
        b'{"id": "1", "code": 99999999999999999999}',
        b'{"id": 99999999999999999999, "code": 200}',
        b'{"id": "1", "code": ' + b"9" * 5000 + b"}",
        b'{"id": "' + b"1" * 65 + b'", "code": 200}',
        b'{"id": "1", "code": 200, "data": ' + b"[" * 100_000,
        b'{"id": "1", "code": 200, "data": "' + b"x" * alink.MAX_MESSAGE + b'"}',
    ],
)
def test_what_is_no_reply(payload: bytes) -> None:
    with pytest.raises(AlinkError):
        alink.parse_reply(payload)


def test_a_reply_does_not_show_what_may_be_secret() -> None:
    _, reply = alink.parse_reply(b'{"id": "1", "code": 200, "data": "7f3c9a1e"}')
    assert "7f3c9a1e" not in repr(reply)


def test_a_notice_to_add_children() -> None:
    second = [{"deviceName": "c@d:e.f_", "productKey": "b"}]
    assert parse(alink.TOPO_NOTIFY, NAMED + second) == AddRequested((ONE, TWO))


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (0, TopologyChange.CREATED),
        (1, TopologyChange.DELETED),
        (2, TopologyChange.ENABLED),
        (8, TopologyChange.DISABLED),
        ("8", TopologyChange.DISABLED),
        (3, TopologyChange.UNKNOWN),
        (None, TopologyChange.UNKNOWN),
    ],
)
def test_a_change_of_the_topology(status: object, change: TopologyChange) -> None:
    params = {"status": status, "subList": NAMED}
    assert parse(alink.TOPO_CHANGE, params) == TopologyChanged(change, (ONE,))


@pytest.mark.parametrize("params", [None, [], {}, {"status": 8, "subList": "x"}])
def test_a_change_that_says_little_is_still_one(params: object) -> None:
    downlink = parse(alink.TOPO_CHANGE, params)
    assert isinstance(downlink, TopologyChanged)
    assert downlink.children == ()


@pytest.mark.parametrize(
    ("time", "seconds"), [(1, 1), (60, 60), ("60", 60), (65534, 65534), (65535, 0), (0, 65534)]
)
def test_how_long_joining_is_permitted(time: object, seconds: int) -> None:
    assert parse(alink.PERMIT, {"time": time}) == PermitJoin(seconds, "")
    named = {"time": time, "productKey": "a1Child"}
    assert parse(alink.PERMIT, named) == PermitJoin(seconds, "a1Child")


@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"time": -1},
        {"time": 65536},
        {"time": "soon"},
        {"time": 60, "productKey": 7},
        {"time": 60, "productKey": "a/b"},
    ],
)
def test_a_permission_that_cannot_be_read(params: object) -> None:
    with pytest.raises(AlinkError):
        parse(alink.PERMIT, params)


@pytest.mark.parametrize("order", [alink.DISABLE, alink.ENABLE, alink.DELETE])
def test_an_order_to_a_child(order: str) -> None:
    message = alink.parse_downlink(DownlinkTopic(order, ONE), b'{"id": 7, "params": {}}')
    assert message == ("7", SubDeviceOrder(order, ONE))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"id": "1", "code": 520, "message": "x"}, ForcedOff(520, None)),
        ({"code": "522", "data": NAMED[0]}, ForcedOff(522, ONE)),
        ({"code": 521, "data": {"productKey": "../..", "deviceName": "x"}}, ForcedOff(521, None)),
    ],
)
def test_a_child_forced_off(message: dict[str, Any], expected: ForcedOff) -> None:
    payload = json.dumps(message).encode()
    assert alink.parse_downlink(DownlinkTopic(alink.ERROR, OWN), payload) == ("", expected)


def test_names_that_are_none_are_left_out() -> None:
    data: list[object] = [None, 7, [], {}, {"productKey": "a1Child"}, *NAMED,
            {"productKey": "a1Child", "deviceName": "child 01"},
            {"productKey": "a1Child", "deviceName": "c\ud800hild"},
            {"productKey": "x" * 21, "deviceName": "child-01"}]  # fmt: skip
    assert alink.names_in(data) == (ONE,)
    assert alink.names_in(NAMED[0]) == (ONE,)
    assert alink.names_in({}) == alink.names_in("x") == ()


@given(st.sampled_from([*TOPICS, DownlinkTopic(alink.ERROR, OWN)]), JSON | st.binary())
def test_nothing_the_cloud_sends_is_more_than_refused(
    asked: DownlinkTopic, message: object
) -> None:
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    for parse in (alink.parse_reply, lambda data: alink.parse_downlink(asked, data)):
        try:
            number, _ = parse(payload)
        except AlinkError:
            continue
        alink.answer(number)
