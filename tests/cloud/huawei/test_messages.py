"""Messages between a gateway and the platform: every vector, and what is no message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.huawei import messages, requests
from gatewayd.cloud.huawei.messages import (
    EventError,
    NodeName,
    Notice,
    Response,
    SubDeviceEvent,
    SubDeviceFailure,
    SubDeviceInfo,
    SubDeviceStatus,
)
from tests.cloud.huawei.vectors import VECTORS

MESSAGES: Mapping[str, Any] = VECTORS["gateway_messages"]
GATEWAY, PRODUCT = MESSAGES["gateway_id"], MESSAGES["child_product_id"]
DOWN = {one["name"]: one for one in MESSAGES["down"]}
EVENT_ID = "40cc9ab1-3579-488c-95c6-c18941c99eb4"
AT = 1767323045.9  # 2026-01-02T03:04:05.9Z


def info(node: str, status: SubDeviceStatus = SubDeviceStatus.INACTIVE) -> SubDeviceInfo:
    return SubDeviceInfo(f"{PRODUCT}_{node}", node, PRODUCT, GATEWAY, status)


UNNAMED = NodeName("", "")
EXPECTED: Mapping[str, messages.Downlink] = {
    "add_all_ok": Response(SubDeviceEvent.ADD, EVENT_ID, (info("c1"), info("c2")), ()),
    "add_mixed": Response(
        SubDeviceEvent.ADD,
        EVENT_ID,
        (info("c1"),),
        (SubDeviceFailure("IOTDA.014031", "", NodeName(PRODUCT, "c2")),),
    ),
    "delete_mixed": Response(
        SubDeviceEvent.DELETE,
        EVENT_ID,
        (SubDeviceInfo(f"{PRODUCT}_c1"),),
        (SubDeviceFailure("XXX", f"{PRODUCT}_c9", UNNAMED),),
    ),
    "notify_add": Notice(True, (info("c3"),), 8),
    "notify_delete": Notice(False, (SubDeviceInfo(f"{PRODUCT}_c3", "c3", "", GATEWAY),), 9),
    "status_response": Response(
        SubDeviceEvent.STATUS,
        EVENT_ID,
        (SubDeviceInfo(f"{PRODUCT}_c1", status=SubDeviceStatus.ONLINE),),
        (SubDeviceFailure("XXX", f"{PRODUCT}_c9", UNNAMED),),
    ),
    "status_response_old_docs_event_type": Response(
        SubDeviceEvent.STATUS,
        EVENT_ID,
        (SubDeviceInfo(f"{PRODUCT}_c1", status=SubDeviceStatus.ONLINE),),
        (),
    ),
}


def test_all_vectors_are_expected() -> None:
    assert EXPECTED.keys() == DOWN.keys()


@pytest.mark.parametrize("name", DOWN)
def test_messages_of_the_platform(name: str) -> None:
    assert DOWN[name]["topic"] == messages.down_topic(GATEWAY)
    payload = json.dumps(DOWN[name]["payload"]).encode()
    assert messages.parse(payload, GATEWAY) == (EXPECTED[name],)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "add",
            messages.request(
                SubDeviceEvent.ADD, messages.to_add([NodeName(PRODUCT, "c1")]), AT, EVENT_ID
            ),
        ),
        (
            "delete",
            messages.request(
                SubDeviceEvent.DELETE, messages.to_delete([f"{PRODUCT}_c1"]), AT, EVENT_ID
            ),
        ),
        (
            "status",
            messages.request(
                SubDeviceEvent.STATUS,
                messages.to_report([f"{PRODUCT}_c1"], SubDeviceStatus.ONLINE),
                AT,
                EVENT_ID,
            ),
        ),
        ("sync", messages.request(SubDeviceEvent.SYNC, messages.to_sync(7), AT)),
    ],
)
def test_what_a_gateway_asks(name: str, message: bytes) -> None:
    vector = MESSAGES["up"][name]
    assert vector["topic"] == messages.up_topic(GATEWAY)
    assert json.loads(message) == vector["payload"]


def test_without_a_version_all_is_asked_for() -> None:
    (service,) = json.loads(messages.request(SubDeviceEvent.SYNC, messages.to_sync(0), AT))[
        "services"
    ]
    assert service["paras"] == {}


@pytest.mark.parametrize("row", MESSAGES["chunking"], ids=str)
def test_as_many_fit_into_a_request_as_into_those_of_the_vectors(row: dict[str, Any]) -> None:
    sizes = {"add": requests.ADDED, "delete": requests.DELETED, "status": requests.REPORTED}
    if (size := sizes.get(row["op"])) is not None:
        assert max(row["chunks"], default=0) <= size
        assert len(row["chunks"]) == -(-row["items"] // size)


def message(*services: object, **more: object) -> bytes:
    return json.dumps({"services": services} | more).encode()


def service(kind: object, paras: object, **more: object) -> dict[str, object]:
    head = {"service_id": "$sub_device_manager", "event_type": kind, "event_id": EVENT_ID}
    return head | {"paras": paras} | more


ADDED = service("add_sub_device_notify", {"devices": [{"device_id": "d-1", "node_id": "n"}]})
LEARNT = Notice(True, (SubDeviceInfo("d-1", "n"),), 0)


def test_every_event_of_a_message_counts() -> None:
    both = message(ADDED, service("start_scan", {}), ADDED | {"service_id": "other"}, 7, ADDED)
    assert messages.parse(both, GATEWAY) == (LEARNT, LEARNT)


@pytest.mark.parametrize("device", [None, "", GATEWAY])
def test_the_device_may_be_left_out(device: str | None) -> None:
    assert messages.parse(message(ADDED, object_device_id=device), GATEWAY) == (LEARNT,)


def test_a_message_to_a_child_is_not_for_the_gateway() -> None:
    assert messages.parse(message(ADDED, object_device_id="another"), GATEWAY) == ()


def test_anything_optional_may_be_null() -> None:
    keys = ("node_id", "product_id", "parent_device_id", "status", "name", "extension_info")
    child = {"device_id": "d-1"} | dict.fromkeys(keys)
    paras = {"successful_devices": [child], "failed_devices": None}
    (response,) = messages.parse(message(service("add_sub_device_response", paras)), GATEWAY)
    assert response == Response(SubDeviceEvent.ADD, EVENT_ID, (SubDeviceInfo("d-1"),), ())
    notice = service("add_sub_device_notify", {"devices": None, "version": None})
    assert messages.parse(message(notice), GATEWAY) == (Notice(True, (), 0),)


@pytest.mark.parametrize(
    "bad",
    [
        {"device_id": "d/1"}, {"device_id": "x" * 129}, {"device_id": 7}, {"node_id": "n"}, 7, None,
    ],
)  # fmt: skip
def test_a_child_without_a_good_device_id_is_left_out(bad: object) -> None:
    received = service("add_sub_device_notify", {"devices": [bad, {"device_id": "d-1"}]})
    assert messages.parse(message(received), GATEWAY) == (Notice(True, (SubDeviceInfo("d-1"),), 0),)


def test_hostile_text_does_not_come_in() -> None:
    child = {"device_id": "d-1", "node_id": "\x1b[2J", "product_id": "a b", "status": "MELTED"}
    failure = {"device_id": "d-2", "error_code": "\x1b]0;x\x07", "error_msg": "\u202eevil"}
    paras = {"successful_devices": [child], "failed_devices": [failure, 7]}
    (received,) = messages.parse(message(service("add_sub_device_response", paras)), GATEWAY)
    assert isinstance(received, Response)
    assert received.done == (SubDeviceInfo("d-1"),)
    assert received.failed == (SubDeviceFailure(messages.UNREADABLE, "d-2", UNNAMED),)


@pytest.mark.parametrize(
    "received",
    [
        service("sub_device_update_status", {"device_statuses": []}),  # an echo, no answer
        service("add_sub_device_response", {"successful_devices": []}, event_id=None),
        service("add_sub_device_response", {"successful_devices": []}, event_id="x" * 65),
        service("add_sub_device_response", None),
        service(["add_sub_device_response"], {"successful_devices": []}),
    ],
)
def test_what_answers_no_question_is_passed_over(received: object) -> None:
    assert messages.parse(message(received), GATEWAY) == ()


@pytest.mark.parametrize("version", [-1, 1 << 63, 7.0, "7", True, None])
def test_a_version_that_is_none(version: object) -> None:
    received = service("delete_sub_device_notify", {"devices": [], "version": version})
    assert messages.parse(message(received), GATEWAY) == (Notice(False, (), 0),)


@pytest.mark.parametrize("events", [1, 20])
@pytest.mark.parametrize("key", ["devices", "successful_devices", "failed_devices"])
def test_a_message_that_lists_absurdly_many_is_not_read(key: str, events: int) -> None:
    few = messages.MAX_DEVICES // events
    kind = "add_sub_device_notify" if key == "devices" else "delete_sub_device_response"
    paras = {key: ["x"] * few}
    received = [service(kind, paras, event_id="e")] * events
    assert len(messages.parse(message(*received), GATEWAY)) == events
    with pytest.raises(EventError):
        messages.parse(message(*received, service(kind, paras, event_id="e")), GATEWAY)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b"7", b"{}", b'{"services": {}}', b"\xff", b"[" * 100_000,
        b" " * (messages.MAX_MESSAGE + 1),
    ],
    ids=lambda payload: str(payload[:20]),
)  # fmt: skip
def test_what_is_no_message(payload: bytes) -> None:
    with pytest.raises(EventError):
        messages.parse(payload, GATEWAY)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)


@given(st.sampled_from([one["payload"] for one in MESSAGES["down"]]), st.data())
def test_whatever_comes_in_a_place_it_is_read_or_left_out(
    payload: dict[str, Any], data: st.DataObject
) -> None:
    (service,) = json.loads(json.dumps(payload["services"]))
    paras = service["paras"]
    place = data.draw(st.sampled_from([service, paras]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    for received in messages.parse(message(service), GATEWAY):
        assert isinstance(received, Response | Notice)
