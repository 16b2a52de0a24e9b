"""What a message becomes at the platform, and what is refused before it is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatewayd.cloud.huawei.reporting import uploads
from gatewayd.cloud.huawei.reporting.uploads import (
    MAX_CHILDREN,
    MAX_MESSAGE,
    MAX_REPORT,
    ChildrenReport,
    ChildReport,
    Upload,
    of_device,
    of_sub_device,
)
from gatewayd.device.message import Message
from gatewayd.device.reading import UnfitMessage

ID, CHILD = "gateways_gw-1", "sensors_SEN-0001"
AT = 1_764_444_000_123
MILLIS, SECONDS = "2025-11-29T19:20:00.123Z", "20251129T192000Z"


def said(topic: str, payload: object, at: int = AT) -> Message:
    return Message(
        topic, payload if isinstance(payload, bytes) else json.dumps(payload).encode(), at
    )


def direct(topic: str, payload: object, service: str = "climate", at: int = AT) -> tuple[str, Any]:
    upload = of_device(said(topic, payload, at), ID, service)
    return upload.use, json.loads(upload.payload)


def sub(topic: str, payload: object, service: str = "climate") -> tuple[str, Any]:
    found = of_sub_device(said(topic, payload), CHILD, service)
    if isinstance(found, ChildReport):
        (found,) = pack([found])
    return found.use, json.loads(found.payload)


def pack(parts: list[ChildReport]) -> list[Upload]:
    """Put parts together into as many reports as it takes."""
    reports = [ChildrenReport()]
    for part in parts:
        if not reports[-1].add(part):
            reports.append(ChildrenReport())
            assert reports[-1].add(part)
    return [report.upload() for report in reports]


def devices_in(upload: Upload) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(upload.payload)["devices"]
    return listed


def code(topic: str, payload: object, service: str = "climate") -> set[str]:
    """Return with which codes a message is refused, by either route."""
    codes = set()
    for way in (of_device, of_sub_device):
        with pytest.raises(UnfitMessage) as raised:
            way(said(topic, payload), ID, service)
        reason = raised.value.reason
        assert reason.text.endswith(".")
        assert reason.remedy.endswith(".")
        assert reason.text.isprintable()
        codes.add(reason.code)
    return codes


def test_properties_of_the_service_of_the_product() -> None:
    services = [{
        "service_id": "climate", "properties": {"temperature": 21.5, "lit": True},
        "event_time": MILLIS,
    }]  # fmt: skip
    values = {"temperature": 21.5, "lit": True}
    assert direct("properties", values) == ("sys/properties/report", {"services": services})
    assert sub("properties", values) == (
        "sys/gateway/sub_devices/properties/report",
        {"devices": [{"device_id": CHILD, "services": services}]},
    )


def test_properties_that_name_their_services() -> None:
    _, report = direct("properties", {"temperature": 1, "battery:level": 80, "climate:humidity": 2})
    assert [(one["service_id"], one["properties"]) for one in report["services"]] == [
        ("climate", {"temperature": 1, "humidity": 2}), ("battery", {"level": 80}),
    ]  # fmt: skip
    _, report = direct("properties", {"a.b:c.d": "Süd"}, service="")
    assert report["services"][0]["service_id"] == "a.b"
    assert report["services"][0]["properties"] == {"c.d": "Süd"}


def test_the_time_is_the_childs_own_or_that_of_the_door_or_the_platforms() -> None:
    def time(values: object, at: int) -> object:
        (service,) = direct("properties", values, at=at)[1]["services"]
        return service.get("event_time")

    assert time({"a": 1, "time": AT}, 0) == time({"a": 1, "time": AT}, AT + 9) == MILLIS
    assert time({"a": 1}, AT) == MILLIS
    assert time({"a": 1}, AT // 1000 * 1000) == MILLIS.replace("123", "000")
    assert time({"a": 1}, 0) is None


def test_events() -> None:
    event = {"service_id": "climate", "event_type": "overheated", "event_time": SECONDS,
             "paras": {"at": 80}}  # fmt: skip
    expected = {"object_device_id": ID, "services": [event]}
    assert direct("events/overheated", {"at": 80}) == ("sys/events/up", expected)
    expected = {"object_device_id": CHILD, "services": [event | {"service_id": "oven"}]}
    assert sub("events/oven:overheated", {"at": 80}) == ("sys/events/up", expected)
    _, bare = direct("events/overheated", {}, at=0)
    assert bare["services"] == [{"service_id": "climate", "event_type": "overheated", "paras": {}}]


REPORT = {"services": [{"service_id": "climate", "properties": {"temperature": 1}}]}
OF_ANOTHER = {"object_device_id": "other", "content": 1}
EVENT = {"services": [{"service_id": "climate", "event_type": "hot", "paras": {}}]}


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("sys/properties/report", REPORT),
        ("sys/properties/report?request_id=4-2", REPORT),
        ("sys/events/up", EVENT | {"object_device_id": ID}),
        ("sys/messages/up", b"\x00\xff binary"),
        ("sys/messages/up", {"object_device_id": ID, "content": {"a": 1}}),
        ("sys/messages/up", b"\\u is no escape here"),
        ("sys/messages/up", b""),
        ("user/oven/door", b"\xff"),
    ],
)
def test_the_platforms_own_form_of_a_device_passes_unchanged(topic: str, payload: object) -> None:
    message = said(topic, payload)
    assert of_device(message, ID, "") == Upload(topic, message.payload)


def test_the_platforms_own_form_names_a_sub_device() -> None:
    listed = [{"device_id": CHILD, **REPORT}]
    assert sub("sys/properties/report", REPORT)[1] == {"devices": listed}
    expected = ("sys/events/up", EVENT | {"object_device_id": CHILD})
    assert sub("sys/events/up", EVENT) == expected
    assert sub("sys/events/up", EVENT | {"object_device_id": ""}) == expected
    for content in ({"a": 1}, "text"):
        assert sub("sys/messages/up", {"content": content, "name": "n"}) == (
            "sys/messages/up", {"content": content, "name": "n", "object_device_id": CHILD},
        )  # fmt: skip


@pytest.mark.parametrize(
    "topic",
    [
        "", "property", "Properties", "events", "sys", "sys/properties/report/", "sys/#", "+", "#",
        "sys/../sys/properties/report", "/sys/properties/report", "$oc/devices/x/sys/messages/up",
        "sys/gateway/sub_devices/properties/report", "sys/commands/response/request_id=1",
        "sys/properties/report?request_id=a/b", "sys/messages/up\x00", "user", "user/", "user//a",
        "user/../x", "user/+", "user/#", "user/$x", "user/" + "x" * 65, "user/" + "a/" * 8 + "a",
        "user" + "/abcdefgh" * 8 + "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopq",
        "sys/messages/up\n", "user/a\n",
    ],
)  # fmt: skip
def test_a_topic_that_is_none_of_the_childs(topic: str) -> None:
    assert code(topic, {"a": 1}) == {"message-topic-unknown"}


def test_a_sub_device_has_no_topics_of_its_own() -> None:
    with pytest.raises(UnfitMessage) as raised:
        of_sub_device(said("user/door", b"x"), CHILD, "")
    assert "sys/messages/up" in raised.value.reason.remedy


@pytest.mark.parametrize("topic", ["properties", "events/x:y"])
@pytest.mark.parametrize("payload", [b"\xff\xfe", b"21.5", b'{"a": NaN}', b'{"a": 1e999}', b""])
def test_what_is_no_reading(topic: str, payload: bytes) -> None:
    assert code(topic, payload) <= {"message-unreadable", "message-value-unfit"}


@pytest.mark.parametrize(
    ("topic", "payload", "service", "expected"),
    [
        ("properties", {}, "climate", "message-empty"),
        ("properties", {"time": AT}, "climate", "message-empty"),
        ("properties", {"time": AT // 1000, "a": 1}, "climate", "message-time-unfit"),
        ("properties", {"a": 1}, "", "message-service-missing"),
        ("properties", {":a": 1}, "", "message-service-missing"),
        ("properties", {"": 1}, "climate", "message-name-unfit"),
        ("properties", {"a b": 1}, "climate", "message-name-unfit"),
        ("properties", {"a:": 1}, "climate", "message-name-unfit"),
        ("properties", {"a:b:c": 1}, "climate", "message-name-unfit"),
        ("properties", {"x" * 65: 1}, "climate", "message-name-unfit"),
        ("properties", {"\x1b[2J": 1}, "climate", "message-name-unfit"),
        ("properties", {"$ota:a": 1}, "climate", "message-service-reserved"),
        ("properties", {"climate:a": 1, "a": 2}, "climate", "message-unreadable"),
        ("properties", {"a": "x" * MAX_REPORT}, "climate", "message-too-large"),
        ("events/hot", {}, "", "message-service-missing"),
        ("events/", {}, "climate", "message-name-unfit"),
        ("events/" + "x" * 33, {}, "climate", "message-name-unfit"),
        ("events/a/b", {}, "climate", "message-name-unfit"),
        ("events/$sub_device_manager:add_sub_device_request", {}, "", "message-service-reserved"),
        ("events/hot", {"a": "x" * MAX_MESSAGE}, "climate", "message-too-large"),
        ("sys/properties/report", {"devices": []}, "", "message-malformed"),
        ("sys/properties/report", {"services": []}, "", "message-malformed"),
        ("sys/properties/report", {"services": [1]}, "", "message-malformed"),
        ("sys/properties/report", EVENT, "", "message-malformed"),
        ("sys/properties/report", b"\xff", "", "message-unreadable"),
        ("sys/events/up", REPORT, "", "message-malformed"),
        ("sys/events/up", EVENT | {"object_device_id": "other"}, "", "message-other-device"),
        ("sys/messages/up", OF_ANOTHER, "", "message-other-device"),
        ("sys/messages/up", b'{"object\\u005fdevice_id": "other"}', "", "message-other-device"),
        ("sys/messages/up", {"content": "x" * MAX_MESSAGE}, "", "message-too-large"),
    ],
)  # fmt: skip
def test_what_the_platform_would_discard(
    topic: str, payload: object, service: str, expected: str
) -> None:
    assert code(topic, payload, service) == {expected}


@pytest.mark.parametrize("service", ["$sub_device_manager", "sub_device_manager"])
def test_no_child_manages_the_gateways_children(service: str) -> None:
    event = {"services": [EVENT["services"][0] | {"service_id": service}]}
    assert code("sys/events/up", event) == {"message-service-reserved"}


def test_what_is_broken_inside_the_platforms_own_form() -> None:
    for value in (r'"\ud800"', "1e999"):
        properties = f'{{"b": {value}}}'
        payload = f'{{"services": [{{"service_id": "a", "properties": {properties}}}]}}'
        with pytest.raises(UnfitMessage) as raised:
            of_sub_device(said("sys/properties/report", payload.encode()), CHILD, "")
        assert raised.value.reason == uploads.MALFORMED


@pytest.mark.parametrize("payload", [b"text", b"[]", b'{"a": 1}'])
def test_a_message_of_a_sub_device_needs_an_envelope(payload: bytes) -> None:
    with pytest.raises(UnfitMessage) as raised:
        of_sub_device(said("sys/messages/up", payload), CHILD, "")
    assert raised.value.reason.code in ("message-malformed", "message-unreadable")


def part(child: int, size: int = 10) -> ChildReport:
    return ChildReport(f"sensors_{child:03}", (b'{"x":"' + b"x" * size + b'"}',))


def test_reports_are_put_together_in_order_and_a_child_has_one_entry() -> None:
    (upload,) = pack([part(1, 1), part(2, 2), part(1, 3)])
    devices = devices_in(upload)
    assert [one["device_id"] for one in devices] == ["sensors_001", "sensors_002"]
    assert [len(one["x"]) for one in devices[0]["services"]] == [1, 3]


def test_no_report_has_too_many_children() -> None:
    packed = pack([part(number) for number in range(2 * MAX_CHILDREN + 1)])
    assert [len(devices_in(one)) for one in packed] == [MAX_CHILDREN, MAX_CHILDREN, 1]
    packed = pack([part(number % MAX_CHILDREN) for number in range(2 * MAX_CHILDREN)])
    assert [len(devices_in(one)) for one in packed] == [MAX_CHILDREN]


def test_no_report_has_too_many_bytes() -> None:
    packed = pack([part(number % 7, 9000 + number) for number in range(50)])
    services = [len(one["services"]) for upload in packed for one in devices_in(upload)]
    assert sum(services) == 50
    assert all(MAX_REPORT - 10_000 < len(one.payload) <= MAX_REPORT for one in packed[:-1])


def test_the_largest_report_of_one_child_fits() -> None:
    empty = len(of_sub_device_payload(0))
    assert len(of_sub_device_payload(MAX_REPORT - empty)) == MAX_REPORT
    with pytest.raises(UnfitMessage):
        of_sub_device_payload(MAX_REPORT - empty + 1)


def of_sub_device_payload(size: int) -> bytes:
    found = of_sub_device(said("properties", {"climate:a": "x" * size}), CHILD, "")
    assert isinstance(found, ChildReport)
    (upload,) = pack([found])
    return upload.payload
