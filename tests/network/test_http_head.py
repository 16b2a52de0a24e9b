"""The head of an HTTP response, complete, in pieces, and of no use."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.network.http_head import MAX_HEAD, HttpError, HttpHead, parse_head

HEAD = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nA:\r\n\r\n"


def test_a_head_is_read() -> None:
    assert parse_head(HEAD + b"body") == HttpHead(
        407, ((b"proxy-authenticate", b"Basic"), (b"a", b"")), len(HEAD)
    )


@pytest.mark.parametrize("end", range(len(HEAD)))
def test_a_head_in_pieces_is_awaited(end: int) -> None:
    assert parse_head(HEAD[:end]) is None


@pytest.mark.parametrize("came", [
    b"\x15\x03\x01", b"SSH-2.0-", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 099 x\r\n\r\n",
    b"HTTP/1.1 2000\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n b\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\nB: c\r\n\r\n", b"\r\n\r\n",
    b"HTTP/1.1 200 " + b"x" * MAX_HEAD, b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * MAX_HEAD,
])  # fmt: skip
def test_no_head_is_refused(came: bytes) -> None:
    with pytest.raises(HttpError):
        parse_head(came)


def test_a_head_of_the_longest_size_is_read() -> None:
    head = HEAD[:-2] + b"B: " + b"x" * (MAX_HEAD - len(HEAD) - 5) + b"\r\n\r\n"
    assert len(head) == MAX_HEAD
    assert parse_head(head) is not None
    with pytest.raises(HttpError):
        parse_head(head[:-4] + b"x\r\n\r\n")


def test_a_field_that_comes_twice() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\na: 1\r\nA: 2\r\n\r\n")
    assert head is not None
    assert head.values(b"a") == [b"1", b"2"]
    assert head.only(b"b") is None
    with pytest.raises(HttpError):
        head.only(b"a")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_awaited_or_refused(came: bytes) -> None:
    with contextlib.suppress(HttpError):
        head = parse_head(came)
        assert head is None or head.size <= len(came)
