"""What is sent to the API, and what its answers mean."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl

import pytest

from gatewayd.console.access_key import AccessKey
from gatewayd.console.alibaba.dialect import AlibabaDialect, action_of, call, numbered
from gatewayd.console.alibaba.refusals import REFUSALS, refusal_of
from gatewayd.console.client import ApiBusy
from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError, ConsoleRefused
from gatewayd.network.http_response import HttpResponse
from gatewayd.simulator.alibaba.open_api.signature import OpenApiSignatures

KEY = AccessKey("testid", Secret(b"testsecret"), Secret(b"CAIS+token/with=signs"))
NOW = 1_780_000_000.0
NAMES = ("TH20-0001A7", "pump@hall:3")
REQUEST = call(
    "BatchCheckDeviceNames",
    {"ProductKey": "a1Gt7n5yTt8"},
    numbered("DeviceName", NAMES),
    shown="The check of 2 names",
)


def read(status: int, body: object) -> object:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return AlibabaDialect(KEY).read(REQUEST, HttpResponse(status, raw))


def refused(body: object) -> ConsoleRefused:
    with pytest.raises(ConsoleRefused) as raised:
        read(400, body)
    return raised.value


def test_the_cloud_accepts_what_is_signed_and_what_is_secret_is_not_sent() -> None:
    sent = AlibabaDialect(KEY).sign(REQUEST, "localhost", NOW, bytes(16))
    query = dict(parse_qsl(sent.target.removeprefix("/?")))
    form = dict(parse_qsl(sent.body.decode()))
    assert form == {"DeviceName.1": NAMES[0], "DeviceName.2": NAMES[1]}
    assert query["SecurityToken"] == "CAIS+token/with=signs"
    cloud = OpenApiSignatures({"testid": "testsecret"}, {"testid": "CAIS+token/with=signs"})
    cloud.check(sent.method, {**query, **form}, NOW)
    assert "testsecret" not in f"{sent.target}{sent.body!r}"
    assert action_of(sent) == "BatchCheckDeviceNames"


def test_an_answer() -> None:
    assert read(200, {"Success": True, "Data": {"ApplyId": 4399}}) == {
        "Success": True,
        "Data": {"ApplyId": 4399},
    }


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"Code": "Throttling.User", "Message": "denied"}),
        (400, {"Code": "Throttling"}),
        (200, {"Success": False, "Code": "iot.common.QuotaLimit"}),
        (503, {"Code": "ServiceUnavailable"}),
        (502, b"<html>"),
    ],
)
def test_what_is_put_off(status: int, body: object) -> None:
    with pytest.raises(ApiBusy):
        read(status, body)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"\xff", {"Success": True, "Code": "x"}, {}])
def test_what_is_no_answer(body: object) -> None:
    if body == {"Success": True, "Code": "x"}:
        assert read(200, body), "done, whatever the code"
        return
    with pytest.raises(ConsoleError, match="no answer of this API"):
        read(200, body)


def test_a_refusal_says_cause_code_and_remedy() -> None:
    error = refused({"Code": "InvalidTimeStamp.Expired", "Message": "x"})
    assert str(error) == (
        "The check of 2 names was refused: the clock of this machine is more than 15 minutes off "
        "(InvalidTimeStamp.Expired). Set it, as by timedatectl set-ntp true, and run the command "
        "again"
    )
    assert error.code == "InvalidTimeStamp.Expired"


def test_a_permission_is_named() -> None:
    error = refused({"Success": False, "Code": "iot.common.RamActionPermissionDeny"})
    assert "Allow that user iot:BatchCheckDeviceNames in the RAM console" in str(error)


def test_what_the_api_says_beside_the_code_is_not_shown() -> None:
    text = "server string to sign is:POST&%2F&SecurityToken%3DCAIS"
    assert "CAIS" not in str(refused({"Code": "SignatureDoesNotMatch", "Message": text}))
    assert "CAIS" not in str(refused({"Code": "CAIS\x1b[1m token", "Message": text}))
    assert "a.new-Code_1" in str(refused({"Code": "a.new-Code_1"}))


def test_each_code_has_a_cause_and_a_remedy() -> None:
    for code, found in REFUSALS.items():
        assert found.cause[0].islower(), code
        assert found.remedy[0].isupper(), code
        assert not f"{found.cause}{found.remedy}".endswith("."), code
    assert refusal_of("Iot.system.BillIsOverDue") == REFUSALS["iot.system.BillIsOverDue"]
