"""What a message becomes at the cloud; what passes unchanged; and what does not fit.

Page: "Device properties, events, and services" (document_detail/89301).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.cloud.alibaba.alink import MAX_MESSAGE, SubName
from gatewayd.cloud.alibaba.reporting import reports
from gatewayd.cloud.alibaba.reporting.reports import (
    MAX_AHEAD,
    MAX_DEVICES,
    MAX_EVENTS,
    MAX_PROPERTIES,
    AlibabaReport,
    DeviceReport,
    Draft,
    ReportRequest,
)
from gatewayd.cloud.publisher import MappedMessage
from gatewayd.device.message import Message
from gatewayd.device.reading import UnfitMessage
from gatewayd.testing.contracts.cloud import check_reason

AT = 1_764_444_000_123
ONE, TWO = SubName("a1Product", "one"), SubName("a1Product", "two")
PK, DN = ONE


def said(payload: str | bytes, topic: str = "properties", at: int = AT) -> AlibabaReport:
    data = payload.encode() if isinstance(payload, str) else payload
    report = reports.read(Message(topic, data, at), ONE)
    assert isinstance(report, AlibabaReport)
    return report


def params(report: AlibabaReport) -> Any:
    return json.loads(report.params)


def passed(topic: str, payload: bytes = b"\xff\x00", *, gateway: bool = False) -> str:
    """The topic of what passes unchanged."""
    mapped = reports.read(Message(topic, payload, 0), ONE, gateway=gateway)
    assert isinstance(mapped, MappedMessage)
    assert mapped.payload == payload
    return mapped.topic


def refusal(topic: str, payload: bytes, *, at: int = AT, gateway: bool = False) -> str:
    with pytest.raises(UnfitMessage) as raised:
        reports.read(Message(topic, payload, at), ONE, gateway=gateway)
    check_reason(raised.value.reason)
    assert raised.value.reason.remedy.endswith(".")
    return raised.value.reason.code


def test_properties_have_a_value_and_a_time_each() -> None:
    report = said('{"Temperature": 21.5, "m1:Level": 3}')
    assert (report.event, report.properties, report.time) == ("", 2, AT)
    assert params(report) == {
        "Temperature": {"value": 21.5, "time": AT},
        "m1:Level": {"value": 3, "time": AT},
    }


@pytest.mark.parametrize(
    ("payload", "at", "time"),
    [
        ('{"a": 1, "time": 1764444000000}', AT, 1_764_444_000_000),
        ('{"a": 1, "time": 1764444000000}', 0, 1_764_444_000_000),
        ('{"a": 1}', AT, AT),
        ('{"a": 1}', 0, 0),
    ],
)
def test_the_childs_own_time_comes_first(payload: str, at: int, time: int) -> None:
    for topic in ("properties", "events/Hot"):
        report = said(payload, topic, at)
        inner = params(report) if topic != "properties" else params(report)["a"]
        assert (report.time, inner.get("time", 0)) == (time, time)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("true", "1"), ("false", "0"), ("21.0", "21.0"), ("21", "21"), ("1e300", "1e+300"),
        ('"\\u6e29\\ud83d\\ude00"', '"\\u6e29\\ud83d\\ude00"'), ("[1,true]", "[1,1]"),
        ('{"x":true,"y":[false]}', '{"x":1,"y":[0]}'), ("9223372036854775807",) * 2,
    ],
)  # fmt: skip
def test_values_are_written_as_the_cloud_reads_them(value: str, written: str) -> None:
    """A truth value is 0 or 1 there, and a decimal keeps its point."""
    assert said(f'{{"a": {value}}}', at=0).params == f'{{"a":{{"value":{written}}}}}'


def test_an_event_has_its_values() -> None:
    report = said('{"Temperature": 80.5, "Worse": true}', "events/Hot")
    assert (report.event, report.properties) == ("Hot", 0)
    assert params(report) == {"value": {"Temperature": 80.5, "Worse": 1}, "time": AT}
    assert params(said("{}", "events/Hot", 0)) == {"value": {}}


@pytest.mark.parametrize(
    ("topic", "full"),
    [
        ("thing/event/property/post", f"/sys/{PK}/{DN}/thing/event/property/post"),
        ("thing/model/up_raw", f"/sys/{PK}/{DN}/thing/model/up_raw"),
        ("user/update", f"/{PK}/{DN}/user/update"),
        ("user/a/b/c/d", f"/{PK}/{DN}/user/a/b/c/d"),
    ],
)
def test_what_the_cloud_itself_names_passes_unchanged(topic: str, full: str) -> None:
    assert passed(topic) == full
    assert passed(topic, b"") == full


def made(topic: str, payload: bytes, *, confirmed: bool = True) -> ReportRequest | None:
    """The request of a device's own, if its reply is to be waited for."""
    said = reports.read(Message(topic, payload, 0, confirmed=confirmed), ONE)
    return said.made if isinstance(said, AlibabaReport) else None


def test_a_request_of_the_devices_own_is_replied_to() -> None:
    payload = b'{"id": 7, "params": {}}'
    for topic in ("thing/event/property/post", "thing/event/Hot/post", reports.HISTORY_POST):
        request = ReportRequest(topic, number="7", payload=payload)
        assert made(topic, payload) == request
        report = AlibabaReport("", "", 0, 0, request)
        assert reports.single([DeviceReport(ONE, report)]) is request
    assert made("thing/event/property/post", payload, confirmed=False) is None
    for other in (b"\xff", b"{}", b'{"id": "x" }x', b'{"id": "7", "sys": {"ack": 0}}'):
        assert made("thing/event/property/post", other) is None
    for topic in ("user/x", "thing/model/up_raw", reports.PACK_POST, "thing/event/a/b/post"):
        assert made(topic, payload) is None


@pytest.mark.parametrize(
    "topic",
    ["", "/", "thing", "thing/", "user", "user/", "/thing/event/property/post", "thing//event",
     "thing/../../a1Other/two/thing/event/property/post", "thing/./a", "thing/.a", "user/#",
     "user/+/a", "user/a#", "$SYS/a", "thing/$a", "sys/a1/one/thing/x", "ext/ntp/a/b/request",
     "shadow/update", "user/a/b/c/d/e", "user/" + "a" * 120, "thing/" + "a" * 120, "user/a b",
     "user/\x00", "user/é", "user/a\n", "Properties", "properties/", "event/Hot", "events/"],
)  # fmt: skip
def test_a_topic_that_is_not_the_devices_own(topic: str) -> None:
    assert refusal(topic, b"{}") == "message-topic-unknown"


@pytest.mark.parametrize(
    "topic",
    ["thing/topo/add", "thing/topo/delete", "thing/sub/register", "thing/list/found",
     "thing/event/property/pack/post", "thing/event/property/history/post"],
)  # fmt: skip
def test_a_gateway_speaks_for_no_one_else(topic: str) -> None:
    assert refusal(topic, b"{}", gateway=True) == "message-topic-unknown"
    assert passed(topic)
    assert passed("thing/event/property/post", gateway=True)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "message-unreadable"),
        (b"\xff\xfe{}", "message-unreadable"),
        (b'{"a": NaN}', "message-unreadable"),
        (b"[1]", "message-unreadable"),
        (b'{"a": null}', "message-value-unfit"),
        (b'{"a": 9223372036854775808}', "message-value-unfit"),
        (b'{"a": "' + b"x" * 10_241 + b'"}', "message-value-unfit"),
        (b'{"a": {"b": ["' + b"x" * 10_241 + b'"]}}', "message-value-unfit"),
        (b'{"a": [' + b"1," * 512 + b"1]}", "message-value-unfit"),
        (b'{"a b": 1}', "message-name-unfit"),
        (b'{"": 1}', "message-name-unfit"),
        (b'{"a.b": 1}', "message-name-unfit"),
        (b'{"a:b:c": 1}', "message-name-unfit"),
        (b'{"\\u001b[2J": 1}', "message-name-unfit"),
        (b'{"' + b"a" * 51 + b'": 1}', "message-name-unfit"),
        (b"{}", "message-empty"),
        (b'{"time": 1764444000000}', "message-empty"),
        (json.dumps({f"p{n}": 1 for n in range(201)}).encode(), "message-too-large"),
        (json.dumps({f"p{n}": "x" * 2000 for n in range(150)}).encode(), "message-too-large"),
        (b'{"a": 1, "time": %d}' % (AT + MAX_AHEAD + 1), "message-time-unfit"),
        (b'{"a": 1, "time": 1764444000}', "message-time-unfit"),
    ],
)
def test_a_report_that_does_not_fit(payload: bytes, code: str) -> None:
    assert refusal("properties", payload) == code


def test_an_event_that_does_not_fit() -> None:
    for topic in ("events/a b", "events/a/b", "events/" + "a" * 51):
        assert refusal(topic, b"{}") == "message-topic-unknown"
    assert refusal("events/Hot", b'{"a b": 1}') == "message-name-unfit"


TOPICS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["properties", "events/", "thing/", "user/", "thing/event/"]).flatmap(
        lambda start: st.text(alphabet="abZ09_-./#+$\x00 é", max_size=30).map(start.__add__)
    ),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
PAYLOADS = st.binary(max_size=60) | st.dictionaries(
    st.text(alphabet="ab_:é. ", max_size=6) | st.just("time"), VALUES, max_size=4
).map(lambda values: json.dumps(values).encode())


@given(TOPICS, PAYLOADS, st.sampled_from([0, AT]), st.booleans(), st.booleans())
@settings(max_examples=400)
def test_whatever_a_child_says_is_its_own_or_refused(
    topic: str, payload: bytes, at: int, confirmed: bool, gateway: bool
) -> None:
    """No topic of another device, and nothing that is no JSON in the vendor's envelope."""
    message = Message(topic, payload, at, confirmed=confirmed)
    try:
        found = reports.read(message, ONE, gateway=gateway)
    except UnfitMessage as unfit:
        check_reason(unfit.reason)
        return
    if isinstance(found, MappedMessage):
        assert found.topic.startswith((f"/sys/{PK}/{DN}/thing/", f"/{PK}/{DN}/user/"))
        assert not set(found.topic) & set("#+$\x00")
        assert ".." not in found.topic.split("/")
        assert found.payload == payload
        return
    request = reports.single([DeviceReport(ONE, found)])
    assert request.method.startswith("thing/event/")
    assert len(request.method.split("/")) in (4, 5)
    for form in (reports.single, reports.pack, reports.history, reports.batch):
        if found.made is None:
            sent = body(form([DeviceReport(ONE, found)]))
            assert sent.keys() == {"id", "version", "sys", "params", "method"}


def test_limits_are_accepted() -> None:
    full = {f"p{n}": "x" * 1000 for n in range(MAX_PROPERTIES)}
    assert said(json.dumps(full)).properties == MAX_PROPERTIES
    assert said(f'{{"a": 1, "time": {AT + MAX_AHEAD}}}').time == AT + MAX_AHEAD
    assert passed("user/x", b"x" * MAX_MESSAGE)
    assert refusal("user/x", b"x" * (MAX_MESSAGE + 1)) == "message-too-large"


def body(request: ReportRequest, *, answered: bool = True) -> Any:
    return json.loads(reports.payload("7", request, answered=answered))


def test_a_request_as_the_page_has_it() -> None:
    report = said('{"a": 1}', at=0)
    assert body(reports.single([DeviceReport(ONE, report)]), answered=False) == {
        "id": "7",
        "version": "1.0",
        "sys": {"ack": 0},
        "params": {"a": {"value": 1}},
        "method": "thing.event.property.post",
    }
    hot = said('{"a": 1}', "events/Hot")
    request = reports.single([DeviceReport(ONE, hot)])
    assert request.method == "thing/event/Hot/post"
    assert body(request)["sys"] == {"ack": 1}


def identity(device: SubName) -> dict[str, dict[str, str]]:
    return {"identity": {"productKey": device.product, "deviceName": device.device}}


def test_a_pack_has_a_part_for_each_child() -> None:
    value, hot = said('{"a": 1}'), said('{"b": 2}', "events/Hot")
    request = reports.pack([DeviceReport(ONE, value), DeviceReport(TWO, hot)])
    assert body(request)["method"] == "thing.event.property.pack.post"
    assert json.loads(request.params) == {
        "subDevices": [
            identity(ONE) | {"properties": params(value)},
            identity(TWO) | {"events": {"Hot": params(hot)}},
        ]
    }


def test_a_history_has_lists_for_each_device() -> None:
    some = [said(f'{{"a": {n}}}') for n in range(3)]
    hot = said('{"b": 2}', "events/Hot")
    given = [(ONE, some[0]), (TWO, some[1]), (ONE, hot), (ONE, some[2])]
    request = reports.history([DeviceReport(*one) for one in given])
    assert body(request)["method"] == "thing.event.property.history.post"
    assert json.loads(request.params) == [
        identity(ONE)
        | {"properties": [params(some[0]), params(some[2])], "events": [{"Hot": params(hot)}]},
        identity(TWO) | {"properties": [params(some[1])]},
    ]


def test_a_batch_has_lists_for_each_property_and_each_event() -> None:
    some = [said(f'{{"a": {n}, "b": true}}') for n in range(2)]
    hot = said('{"c": 2}', "events/Hot")
    request = reports.batch([DeviceReport(ONE, one) for one in (some[0], hot, some[1])])
    assert body(request)["method"] == "thing.event.property.batch.post"
    assert json.loads(request.params) == {
        "properties": {
            "a": [{"value": 0, "time": AT}, {"value": 1, "time": AT}],
            "b": [{"value": 1, "time": AT}] * 2,
        },
        "events": {"Hot": [{"value": {"c": 2}, "time": AT}]},
    }


def filled(draft: Draft, *given: DeviceReport) -> int:
    return sum(draft.add(one) for one in given)


def test_a_draft_keeps_the_limits() -> None:
    value, hot = said('{"a": 1}'), said("{}", "events/Hot")
    many = [DeviceReport(SubName("a1", f"d{n}"), value) for n in range(30)]
    assert filled(Draft(100, once=True), *many) == MAX_DEVICES
    assert filled(Draft(5, once=True), *many) == 5
    assert filled(Draft(100, once=True), *[DeviceReport(ONE, value)] * 3) == 1
    assert filled(Draft(100, once=False), *[DeviceReport(ONE, value)] * 200) == 100
    assert filled(Draft(100, once=False), *[DeviceReport(ONE, hot)] * 30) == MAX_EVENTS
    wide = said(json.dumps({f"p{n}": 1 for n in range(90)}))
    assert filled(Draft(100, once=False), *[DeviceReport(ONE, wide)] * 3) == 2


def test_what_a_draft_holds_is_no_larger_than_a_message() -> None:
    large = said(json.dumps({f"p{n}": "x" * 10_000 for n in range(9)}))
    draft = Draft(100, once=False)
    given = [DeviceReport(SubName("a1Product" * 2, f"d{n:030}"), large) for n in range(9)]
    assert 1 < filled(draft, *given) < 9
    for compose in (reports.history, reports.pack):
        size = len(reports.payload("4294967295", compose(draft.reports), answered=True))
        assert MAX_MESSAGE * 0.6 < size <= MAX_MESSAGE
