"""What etcd answers is read only in the form that it has."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from gatewayd.site.etcd_messages import (
    MAX_OPERATIONS,
    MAX_PAIRS,
    Compare,
    Compared,
    Delete,
    EtcdFormatError,
    EtcdLease,
    Get,
    KeyValue,
    Put,
    after_prefix,
    parse_fault,
    parse_lease,
    parse_token,
    parse_txn,
    txn_body,
)

PAIR = {"key": "YQ==", "value": "Yg==", "create_revision": "7", "mod_revision": "9", "lease": "3"}


def answer(**more: Any) -> bytes:
    found = {"response_range": {"kvs": [PAIR | more.pop("pair", {})], "more": True}}
    return json.dumps(
        {"header": {"revision": "9"}, "succeeded": True, "responses": [found], **more}
    ).encode()


def test_a_transaction_is_written_as_etcd_reads_it() -> None:
    compares = [Compare("a", Compared.CREATED, 7), Compare("a", Compared.LEASE, 3)]
    body = json.loads(txn_body(compares, [Put("a", b"b", 3), Delete("c")], [Get("p/", True, 5)]))
    assert body == {
        "compare": [
            {"key": "YQ==", "target": "CREATE", "result": "EQUAL", "create_revision": "7"},
            {"key": "YQ==", "target": "LEASE", "result": "EQUAL", "lease": "3"},
        ],
        "success": [
            {"request_put": {"key": "YQ==", "value": "Yg==", "lease": "3"}},
            {"request_delete_range": {"key": "Yw=="}},
        ],
        "failure": [{"request_range": {"key": "cC8=", "range_end": "cDA=", "limit": "5"}}],
    }
    assert after_prefix("/gatewayd/") == b"/gatewayd0"


def test_what_was_found_is_read_and_what_is_left_out_is_zero() -> None:
    read = parse_txn(answer())
    assert (read.succeeded, read.revision, read.found[0].more) == (True, 9, True)
    assert read.found[0].pairs == (KeyValue("a", b"b", 7, 9, 3),)
    empty = parse_txn(b'{"header":{},"responses":[{"response_range":{}},{"response_put":{}}]}')
    assert (empty.succeeded, empty.revision, [one.pairs for one in empty.found]) == (False, 0, [()])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"header": {"revision": 9}}',
        b'{"header": {"revision": "-9"}}',
        b'{"header": {"revision": "9223372036854775808"}}',
        b'{"header": []}',
        b'{"succeeded": "true"}',
        b'{"responses": {}}',
        b'{"responses": [{"response_range": []}]}',
        b'{"responses": [{"response_range": {"kvs": [7]}}]}',
        json.dumps({"responses": [{}] * (MAX_OPERATIONS + 1)}).encode(),
        json.dumps({"responses": [{"response_range": {"kvs": [{}] * (MAX_PAIRS + 1)}}]}).encode(),
        answer(pair={"key": "Y"}),
        answer(pair={"value": 7}),
        answer(pair={"value": "ä"}),
        answer(pair={"lease": "\u0661"}),
        "{}\udcff".encode("utf-8", "surrogateescape"),
    ],
)
def test_what_has_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(EtcdFormatError):
        parse_txn(body)


def test_a_key_of_any_bytes_is_read_and_written_as_it_is() -> None:
    raw = "é/".encode() + b"\xff"
    (pair,) = parse_txn(answer(pair={"key": b64encode(raw).decode()})).found[0].pairs
    body = json.loads(txn_body([], [Delete(pair.key)]))
    assert body["success"] == [{"request_delete_range": {"key": b64encode(raw).decode()}}]


def test_a_lease_is_read_from_a_stream_and_by_itself() -> None:
    alone = b'{"header":{"cluster_id":"9"},"ID":"7587899264475439879","TTL":"15"}'
    assert parse_lease(alone) == EtcdLease(7587899264475439879, 15, "9")
    streamed = b'{"result":{"header":{"cluster_id":"9"},"ID":"5"}}'
    assert parse_lease(streamed) == EtcdLease(5, 0, "9")


@pytest.mark.parametrize("token", ['""', '"a\\r\\nb"', '"\u00e4"', "7", f'"{"a" * 4097}"'])
def test_a_token_that_could_break_a_header_is_refused(token: str) -> None:
    assert parse_token(b'{"token":"aB.1"}') == "aB.1"
    with pytest.raises(EtcdFormatError):
        parse_token(f'{{"token":{token}}}'.encode())


def test_a_refusal_is_shown_in_printable_ascii_and_short() -> None:
    fault = parse_fault(json.dumps({"code": 5, "message": "a\u202e\n" + "b" * 500}).encode())
    assert (fault.code, fault.text) == (5, "a??" + "b" * 197)
    assert parse_fault(b'{"error":{"code":14,"message":"no leader"}}').code == 14
    assert parse_fault(b"Not FoundKeys\n").text == "Not FoundKeys"
    assert parse_fault(b'{"code":true,"error":7}').text == ""
