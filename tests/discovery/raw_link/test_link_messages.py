"""The messages between the link helper and its client."""

from __future__ import annotations

import errno
import socket

import pytest

from gatewayd.discovery.raw_link.frames import MAX_INTERFACES, LinkEvent, LinkReport
from gatewayd.discovery.raw_link.helper import LinkHelper, interface_names


def no_socket(name: str) -> socket.socket:
    raise OSError(f"{name} cannot be opened")


def test_interfaces_are_named_once_and_few() -> None:
    assert interface_names(b"lan0\0eth1\0") == ["lan0", "eth1"]
    assert len(interface_names(b"a\0" * MAX_INTERFACES)) == MAX_INTERFACES


@pytest.mark.parametrize(
    "message",
    [b"\0", b"lan0", b"lan0\0x", b"a\0" * (MAX_INTERFACES + 1), b"a" * 16 + b"\0", b"a\0\0"],
)
def test_names_that_cannot_be_are_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="its client names"):
        interface_names(message)


@pytest.mark.parametrize("report", [LinkReport(LinkEvent.ANSWER, 1, b"frame"),
                                    LinkReport(LinkEvent.ASKED, 0)])  # fmt: skip
def test_a_report_is_read_as_it_was_written(report: LinkReport) -> None:
    assert LinkReport.decode(report.encode(), 2) == report


@pytest.mark.parametrize("message", [b"\0", b"\0\2", b"\3\0", b"\xff\0frame"])
def test_a_report_that_says_nothing_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        LinkReport.decode(message, 2)


def test_the_helper_ends_with_its_client() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.send(b"lan0\0")
        ours.close()
        LinkHelper(theirs, no_socket, lambda: 0.0, lambda: 1).run()


def test_a_client_that_says_nothing_gets_nothing() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.close()
        LinkHelper(theirs, no_socket, lambda: 0.0, lambda: 1).run()


def test_what_cannot_be_asked_is_reported() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    moments = iter(range(100))
    with ours, theirs:
        for message in (b"lan0\0lan1\0lan2\0", b"\0", b"\2", b"\3"):
            ours.send(message)
        ours.shutdown(socket.SHUT_WR)
        LinkHelper(theirs, no_socket, lambda: float(next(moments)), lambda: 1).run()
        reports = [LinkReport.decode(ours.recv(100), 3) for _ in range(2)]
    fault = errno.EIO.to_bytes(2, "big")
    assert reports == [LinkReport(LinkEvent.FAULT, number, fault) for number in (0, 2)]
