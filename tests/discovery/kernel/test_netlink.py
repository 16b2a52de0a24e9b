"""Netlink: its messages, and how a table is read again when changes were lost."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.kernel.netlink import (
    DumpReader,
    NetlinkMessage,
    attributes,
    dump_request,
    messages,
)

ERROR, DONE, LINK, ADDRESS = 2, 3, 16, 20
INTERRUPTED = 0x10


def message(kind: int, sequence: int = 0, flags: int = 0, body: bytes = b"") -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def sequence_of(request: bytes | None) -> int:
    assert request is not None
    return next(messages(request)).sequence


def error(code: int) -> bytes:
    return struct.pack("=i", -code)


def test_the_request_is_a_dump() -> None:
    assert list(messages(dump_request(18, b"body", 7))) == [NetlinkMessage(18, 0x301, 7, b"body")]


@given(st.binary(max_size=300))
def test_any_bytes_are_borne(raw: bytes) -> None:
    assert sum(16 + len(one.body) for one in messages(raw)) <= len(raw)
    assert sum(4 + len(value) for value in attributes(raw).values()) <= len(raw)


@given(st.lists(st.binary(max_size=20), max_size=6), st.integers(0, 200))
def test_what_was_cut_is_left_out(bodies: Sequence[bytes], length: int) -> None:
    whole = b"".join(message(LINK, body=one) + bytes(-len(one) % 4) for one in bodies)
    found = [one.body for one in messages(whole[:length])]
    assert found == list(bodies[: len(found)])
    assert len(list(messages(whole))) == len(bodies)


def reader() -> DumpReader:
    return DumpReader([(18, b""), (22, b"")])


def test_tables_are_read_one_after_another() -> None:
    one = reader()
    first = sequence_of(one.begin())
    assert one.follow(message(LINK)) is None
    assert not one.is_started
    assert one.follow(message(LINK, first)) is None
    assert one.is_started
    second = sequence_of(one.follow(message(DONE, first)))
    assert one.follow(message(DONE, first)) is None, "an answer that comes late is none of this"
    assert not one.is_complete
    one.follow(message(ADDRESS, second) + message(DONE, second))
    assert one.is_complete
    one.follow(message(ADDRESS, second, INTERRUPTED))
    assert not one.is_spoilt


@pytest.mark.parametrize(
    "broken",
    [
        lambda number: message(ADDRESS, number, INTERRUPTED) + message(DONE, number),
        lambda number: message(ERROR, number, body=error(errno.EBUSY)),
    ],
)
def test_a_table_that_changed_while_it_was_read_or_was_busy_is_read_again(broken: object) -> None:
    assert callable(broken)
    one = reader()
    second = sequence_of(one.follow(message(DONE, sequence_of(one.begin()))))
    one.follow(broken(second))
    assert one.is_spoilt
    assert not one.is_complete
    first = sequence_of(one.begin())
    one.follow(message(DONE, sequence_of(one.follow(message(DONE, first)))))
    assert one.is_complete


@pytest.mark.parametrize("body", [b"", error(errno.EPERM)])
def test_what_the_kernel_refuses_is_an_error(body: bytes) -> None:
    one = reader()
    refused = message(ERROR, sequence_of(one.begin()), body=body)
    with pytest.raises(OSError, match=r"denied|permitted|error"):
        one.follow(refused)
