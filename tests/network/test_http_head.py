"""The head of an HTTP response, complete, in pieces, and of no use."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.network.http_head import MAX_HEAD, HttpError, HttpHead, authority, parse_head

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
    # what a careless pattern takes hours for
    b"HTTP/1.1 200 OK\r\nA:" + b" " * (MAX_HEAD - 30) + b"\rb\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA:" + b"\t " * (MAX_HEAD // 2 - 30) + b"\n\r\n\r\n",
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


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\na:\t 1 \t2 \r\nb:  \r\n\r\n")
    assert head is not None
    assert head.fields == ((b"a", b"1 \t2"), (b"b", b""))


@pytest.mark.parametrize(("host", "written"), [
    ("2001:db8::7", "[2001:db8::7]"), ("192.0.2.7", "192.0.2.7"), ("a.example", "a.example"),
    ("b\u00fccher.example", "xn--bcher-kva.example"),
])  # fmt: skip
def test_a_host_is_written_as_an_authority(host: str, written: str) -> None:
    assert authority(host, 8883) == f"{written}:8883"
    assert authority(host, 443, 443) == written
    assert authority(host, 444, 443) == f"{written}:444"


@pytest.mark.parametrize("host", ["a b", "a\r\nX: y", "a\x00", "\u00fc\x7f", "a" * 64, "a..b"])
def test_no_host_makes_a_request_of_its_own(host: str) -> None:
    with pytest.raises(UnicodeError):
        authority(host, 443)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_awaited_or_refused(came: bytes) -> None:
    with contextlib.suppress(HttpError):
        head = parse_head(came)
        assert head is None or head.size <= len(came)
