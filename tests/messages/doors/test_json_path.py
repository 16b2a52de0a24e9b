"""Paths lead to one place in a document, and documents are bounded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.messages.doors.site.json_path import (
    ABSENT,
    MAX_BRACKETS,
    MAX_DOCUMENT,
    MAX_STEPS,
    BadDocument,
    BadPath,
    find,
    parse_path,
    put,
    read_document,
)

DOCUMENT = {"a": {"b.c": [1, {"d": None}], "temperature:0": 2, "é": 3}, "": 4}


@pytest.mark.parametrize(
    ("path", "steps", "value"),
    [
        ("$", (), DOCUMENT),
        ("a", ("a",), DOCUMENT["a"]),
        ("$.a", ("a",), DOCUMENT["a"]),
        ("$['a']", ("a",), DOCUMENT["a"]),
        ("a['b.c'][0]", ("a", "b.c", 0), 1),
        ('a["b.c"][1].d', ("a", "b.c", 1, "d"), None),
        ("a.temperature:0", ("a", "temperature:0"), 2),
        ("a.é", ("a", "é"), 3),
        ("['a'].x", ("a", "x"), ABSENT),
        ("a['b.c'][2]", ("a", "b.c", 2), ABSENT),
        ("a[0]", ("a", 0), ABSENT),
        ("a['b.c'].d", ("a", "b.c", "d"), ABSENT),
    ],
)
def test_a_path_leads_to_one_place(path: str, steps: tuple[str | int, ...], value: object) -> None:
    assert parse_path(path) == steps
    assert find(DOCUMENT, parse_path(path)) is value or find(DOCUMENT, parse_path(path)) == value


@pytest.mark.parametrize(
    "path",
    ["", "a.", ".a", "a..b", "a[*]", "a[-1]", "a[01]", "a['b", "a['']", "a[1", "a]", "$..a", "a\n",
     "a[9999999]", ".".join("a" * (MAX_STEPS + 1))],
)  # fmt: skip
def test_a_path_that_is_none(path: str) -> None:
    with pytest.raises(BadPath):
        parse_path(path)


@given(st.text(max_size=30))
def test_any_text_is_a_path_or_none(text: str) -> None:
    try:
        find(DOCUMENT, parse_path(text))
    except BadPath:
        return


def test_documents_are_bounded() -> None:
    at_most = b'"' + b"x" * (MAX_DOCUMENT - 2) + b'"'
    assert len(read_document(at_most)) == MAX_DOCUMENT - 2
    assert read_document(b"[" + b",".join([b"[]"] * (MAX_BRACKETS - 1)) + b"]")
    for payload in (at_most + b" ", b"[" + b",".join([b"[]"] * MAX_BRACKETS) + b"]"):
        with pytest.raises(BadDocument):
            read_document(payload)


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"\xff", b"nan", b"Infinity", b"-Infinity", b"{'a':1}", b"1 2", b"[" * 5000,
     b"\xef\xbb\xbf{}", b"9" * 5000],
)  # fmt: skip
def test_what_is_no_document(payload: bytes) -> None:
    with pytest.raises(BadDocument):
        read_document(payload)


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=4)
                    | st.dictionaries(st.text(max_size=5), inner, max_size=4)))  # fmt: skip
def test_a_document_is_what_was_written(value: object) -> None:
    assert read_document(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("document", "path", "expected"),
    [
        ("{}", "a", {"a": 7}),
        ("{}", "a.b.c", {"a": {"b": {"c": 7}}}),
        ('{"a":{"x":1}}', "a.b", {"a": {"x": 1, "b": 7}}),
        ('{"a":[0,{}]}', "a[1].b", {"a": [0, {"b": 7}]}),
        ('{"a":1}', "a", {"a": 7}),
        ("{}", "$", 7),
    ],
)
def test_a_value_is_put_where_a_path_leads(document: str, path: str, expected: object) -> None:
    assert put(json.loads(document), parse_path(path), 7) == expected


@pytest.mark.parametrize(
    ("document", "path"), [("{}", "a[0]"), ('{"a":[]}', "a[0]"), ('{"a":1}', "a.b"), ("[]", "a")]
)
def test_a_path_that_leads_nowhere_is_refused(document: str, path: str) -> None:
    with pytest.raises(BadPath):
        put(json.loads(document), parse_path(path), 7)
