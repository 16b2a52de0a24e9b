"""Signatures of the management interface, against those that the vendor's SDK made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.simulator.huawei.management.signature import (
    SKEW,
    AuthorizationClaim,
    SignatureChecker,
    SignedMessage,
    Unauthenticated,
    read,
)
from tests.simulator.huawei.rest import ACCESS_KEY, SECRET_KEY

VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("signature_vectors.json").read_text()
)
NOW = 1_767_323_045.0
REGIONS = frozenset({"cn-north-4", "ap-southeast-3"})
KEEPER = SignatureChecker({ACCESS_KEY: SECRET_KEY}, "a token")


def message(vector: dict[str, Any], **changed: str) -> SignedMessage:
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    body = vector["body"].encode()
    return SignedMessage(vector["method"], vector["target"], headers | changed, body)


def refused(asked: SignedMessage, now: float = NOW, regions: frozenset[str] = REGIONS) -> str:
    with pytest.raises(Unauthenticated) as error:
        KEEPER.check(asked, regions, now)
    assert error.value.message.startswith("Incorrect IAM authentication information: ")
    return error.value.message.partition(": ")[2]


@pytest.mark.parametrize("vector", VECTORS)
def test_what_the_sdk_signs_is_good(vector: dict[str, Any]) -> None:
    KEEPER.check(message(vector), REGIONS, NOW)
    KEEPER.check(message(vector), REGIONS, NOW + SKEW)


@pytest.mark.parametrize("vector", VECTORS)
def test_what_was_changed_is_not(vector: dict[str, Any]) -> None:
    good = message(vector)
    for changed in (
        replace(good, method="PUT"),
        replace(good, target=good.target + "/more"),
        replace(good, target=good.target.partition("?")[0] + "?limit=1"),
        message(vector, **{"instance-id": "west"}),
        message(vector, **{"user-agent": "another"}),
    ):
        assert refused(changed) == "verify aksk signature fail"


def test_another_body() -> None:
    signed, unsigned = VECTORS[2], VECTORS[6]
    assert refused(message(signed | {"body": "{}"})) == "verify aksk signature fail"
    KEEPER.check(message(unsigned | {"body": "{}"}), REGIONS, NOW)
    other = message(unsigned, **{"x-sdk-content-sha256": "0" * 64})
    assert refused(other) == "verify aksk signature fail, another body"


@pytest.mark.parametrize("now", [NOW + SKEW + 1, NOW - SKEW - 1])
def test_an_old_signature_and_one_of_the_future(now: float) -> None:
    assert "out of range" in refused(message(VECTORS[0]), now)


@pytest.mark.parametrize("date", ["", "now", "2026-01-02T03:04:05Z", "20261302T030405Z"])
def test_a_date_that_is_none(date: str) -> None:
    assert "out of range" in refused(message(VECTORS[0], **{"x-sdk-date": date}))


def test_an_unknown_access_key() -> None:
    strange = SignatureChecker({"another": SECRET_KEY}, None)
    with pytest.raises(Unauthenticated, match="ak not exist"):
        strange.check(message(VECTORS[0]), REGIONS, NOW)


def test_a_wrong_secret_key() -> None:
    for vector in VECTORS:
        with pytest.raises(Unauthenticated, match=r"signature fail$"):
            SignatureChecker({ACCESS_KEY: "wrong"}, None).check(message(vector), REGIONS, NOW)


def test_an_instances_own_host_takes_derived_keys_only() -> None:
    host = {"host": "east.st1.iotda-app.cn-north-4.myhuaweicloud.com"}
    assert "not derived" in refused(message(VECTORS[0], **host))


def test_a_derived_key_is_for_a_date_a_region_and_a_service() -> None:
    assert "bad scope" in refused(message(VECTORS[1]), regions=frozenset({"ap-southeast-3"}))
    header = VECTORS[1]["headers"]["Authorization"]
    for old, new in (("/20260102/", "/20260101/"), ("/iotdm,", "/ecs,"), ("/iotdm,", ",")):
        other = message(VECTORS[1], authorization=header.replace(old, new))
        assert "bad scope" in refused(other)


@pytest.mark.parametrize("left_out", ["host;", ";x-sdk-date"])
def test_what_has_to_be_signed(left_out: str) -> None:
    header = VECTORS[0]["headers"]["Authorization"].replace(left_out, "")
    assert "headers are missing" in refused(message(VECTORS[0], authorization=header))


def test_a_signed_header_that_was_not_sent() -> None:
    asked = message(VECTORS[0])
    headers = {name: value for name, value in asked.headers.items() if name != "user-agent"}
    assert "headers are missing" in refused(replace(asked, headers=headers))


def test_a_token_is_as_good() -> None:
    asked = SignedMessage("GET", "/", {"x-auth-token": "a token"}, b"")
    KEEPER.check(asked, REGIONS, NOW)
    for shown in ("", "another", "a token\udcff"):
        assert refused(replace(asked, headers={"x-auth-token": shown})) == "decrypt token fail"
    with pytest.raises(Unauthenticated, match="decrypt token fail"):
        SignatureChecker({}, None).check(asked, REGIONS, NOW)


def test_the_hosts_name() -> None:
    for sent, host in (("Localhost:8443", "localhost"), ("A.example", "a.example"), ("", "")):
        assert SignedMessage("GET", "/", {"host": sent}, b"").host == host


@given(st.text(max_size=300))
def test_any_header_is_read_or_refused(header: str) -> None:
    with pytest.raises(Unauthenticated):
        read(header)


def test_a_claim_is_read() -> None:
    claim = read(VECTORS[1]["headers"]["Authorization"])
    assert isinstance(claim, AuthorizationClaim)
    assert (claim.access_key, claim.scope) == (ACCESS_KEY, "20260102/cn-north-4/iotdm")
    assert claim.algorithm == "V11-HMAC-SHA256"
