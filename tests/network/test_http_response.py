"""HTTP/1.1: answers in every form that servers give them, and nothing else is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.network.http_head import MAX_HEAD, HttpError
from gatewayd.network.http_response import HttpResponse, parse_response

WHOLE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nbody",
    b"HTTP/1.1 200\r\ncontent-length:4 \r\n\r\nbodyand more",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nbod\r\n1\r\ny\r\n0\r\n\r\n",
    b"HTTP/1.1 100\r\n\r\nHTTP/1.1 103\r\nA:b\r\n\r\nHTTP/1.1 200\r\nContent-Length:4\r\n\r\nbody",
)
TRAILED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nA: b\r\n\r\n"
WRONG = (
    b"SSH-2.0-OpenSSH\r\n\r\n",
    b"HTTP/2 200 OK\r\n\r\n",
    b"HTTP/1.1 99 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nFolded: a\r\n b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
)


@pytest.mark.parametrize("came", [*WHOLE, TRAILED])
def test_an_answer_is_read(came: bytes) -> None:
    assert parse_response(came, ended=False) == HttpResponse(200, b"body")


def test_without_a_length_the_end_of_the_stream_is_that_of_the_answer() -> None:
    came = b"HTTP/1.1 404 Not Found\r\n\r\nbody"
    assert parse_response(came, ended=False) is None
    assert parse_response(came, ended=True) == HttpResponse(404, b"body")


@pytest.mark.parametrize("came", [WHOLE[0], WHOLE[2], WHOLE[3], TRAILED])
def test_a_part_of_an_answer_is_none(came: bytes) -> None:
    for size in range(len(came)):
        part = came[:size]
        assert parse_response(part, ended=False) is None
        with pytest.raises(HttpError):
            parse_response(part, ended=True)


@pytest.mark.parametrize("came", WRONG)
def test_what_is_no_answer_is_not_taken(came: bytes) -> None:
    with pytest.raises(HttpError):
        parse_response(came, ended=False)


@given(st.binary(max_size=200), st.booleans())
def test_anything_may_come(noise: bytes, ended: bool) -> None:
    for came in (noise, b"HTTP/1.1 200 OK\r\n" + noise, WHOLE[2][:47] + noise):
        try:
            parse_response(came, ended=ended)
        except HttpError:
            continue


def test_many_interim_answers_are_no_problem() -> None:
    came = b"HTTP/1.1 100\r\n\r\n" * (MAX_HEAD // 16)
    assert parse_response(came, ended=False) is None


def test_many_small_chunks_are_put_together() -> None:
    chunks = b"1\r\nx\r\n" * 10_000
    came = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    assert parse_response(came, ended=False) is None
    whole = parse_response(came + b"0\r\n\r\n", ended=False)
    assert whole == HttpResponse(200, b"x" * 10_000)
