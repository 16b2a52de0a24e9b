"""Calls of an owner: what is signed, and which calls are refused before they are read."""

from __future__ import annotations

from typing import Any

import pytest

from gatewayd.simulator.alibaba.open_api import signature
from gatewayd.simulator.alibaba.open_api.signature import (
    MAX_NONCES,
    TOLERANCE,
    OpenApiRefused,
    OpenApiSignatures,
    string_to_sign,
)

NOW = 1_456_112_445.0
"""2016-02-22T03:40:45Z."""
SECRET = "testsecret"


def call(**changed: str) -> dict[str, str]:
    """A call, signed with the secret unless it is changed afterwards."""
    given = {
        "Action": "RRpc",
        "Version": "2018-01-20",
        "AccessKeyId": "testid",
        "Timestamp": "2016-02-22T03:40:45Z",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": "1",
        "Topic": "/a b/ä~*+",
        **changed,
    }
    return given | {"Signature": signature.signature(SECRET, string_to_sign("POST", given))}


def refusal(checker: OpenApiSignatures, parameters: dict[str, str], **how: Any) -> str:
    with pytest.raises(OpenApiRefused) as raised:
        checker.check(how.get("method", "POST"), parameters, how.get("now", NOW))
    return raised.value.code


@pytest.fixture
def checker() -> OpenApiSignatures:
    return OpenApiSignatures({"testid": SECRET})


def test_what_is_signed_is_encoded_twice_and_sorted() -> None:
    text = string_to_sign("POST", {"b": "/a b/ä~*+", "A": "1", "Signature": "x"})
    assert text == "POST&%2F&A%3D1%26b%3D%252Fa%2520b%252F%25C3%25A4~%252A%252B"


def test_a_call_that_is_signed_is_good_once(checker: OpenApiSignatures) -> None:
    checker.check("POST", call(), NOW)
    assert refusal(checker, call()) == "SignatureNonceUsed"
    checker.check("POST", call(SignatureNonce="2"), NOW)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"Topic": "/other"}, "SignatureDoesNotMatch"),
        ({"Signature": "AAAA"}, "SignatureDoesNotMatch"),
        ({"Signature": "ä"}, "SignatureDoesNotMatch"),
        ({"Signature": ""}, "MissingSignature"),
        ({"Action": ""}, "MissingAction"),
        ({"AccessKeyId": "another"}, "InvalidAccessKeyId.NotFound"),
        ({"Timestamp": "soon"}, "InvalidTimeStamp.Format"),
        ({"SecurityToken": "CAIS"}, "InvalidSecurityToken.Malformed"),
    ],
)
def test_a_call_that_is_changed_is_refused(
    checker: OpenApiSignatures, changed: dict[str, str], code: str
) -> None:
    assert refusal(checker, call() | changed) == code


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"SignatureMethod": "HMAC-MD5"}, "SignatureDoesNotMatch"),
        ({"SignatureVersion": "2.0"}, "SignatureDoesNotMatch"),
        ({"Version": "2017-04-20"}, "InvalidVersion"),
    ],
)
def test_a_call_of_another_kind_is_refused(
    checker: OpenApiSignatures, changed: dict[str, str], code: str
) -> None:
    assert refusal(checker, call(**changed)) == code


def test_times_and_methods(checker: OpenApiSignatures) -> None:
    assert refusal(checker, call(), now=NOW + TOLERANCE + 1) == "InvalidTimeStamp.Expired"
    assert refusal(checker, call(), now=NOW - TOLERANCE - 1) == "InvalidTimeStamp.Expired"
    assert refusal(checker, call(), method="GET") == "SignatureDoesNotMatch"


def test_nonces_are_bounded_and_forgotten(checker: OpenApiSignatures) -> None:
    checker._nonces.update({f"n{number}": NOW for number in range(MAX_NONCES)})
    assert refusal(checker, call()) == "SignatureNonceUsed"
    later = NOW + TOLERANCE + 1
    checker.check("POST", call(Timestamp="2016-02-22T03:55:46Z"), later)
    assert len(checker._nonces) == 1
