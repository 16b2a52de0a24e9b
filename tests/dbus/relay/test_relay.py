"""Between the socket of a bus and GLib: what goes through, and how it ends."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.dbus.glib import Gio, Variant
from gatewayd.dbus.intake import FEW_BYTES, LARGEST, PARSED, BusMessage, Intake
from gatewayd.dbus.relay.frames import LEFT_OUT, NO_REPLY, Judge, MessageHeader, MessageKind
from gatewayd.dbus.relay.relay import (
    BUSY,
    CLOSED_BY_EXEC,
    TOO_LARGE,
    TOO_MANY_DESCRIPTORS,
    BusRelay,
    Greeting,
    MessageGate,
    received,
    socket_path,
)
from tests.dbus.relay.test_frames import EVE, OLGA, call, refusing, with_path

PATIENCE = 60.0
GREETING = b"OK 0123456789abcdef\r\nAGREE_UNIX_FD\r\n"


@contextlib.contextmanager
def relayed(directory: Path, judge: Judge) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield the end of a bus that listens in a directory, and that of GLib."""
    path = directory / "bus"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(PATIENCE)
        relay = BusRelay(str(path), (os.getuid(),), judge)
        inside = socket.socket(fileno=relay.open())
        bus, _ = listening.accept()
        for end in (bus, inside):
            end.settimeout(PATIENCE)
        with bus, inside:
            yield bus, inside
            relay.close()
        assert relay.join(PATIENCE)


def holders(file: int) -> int:
    """How many descriptors of this process are of a file."""
    found, wanted = 0, os.fstat(file).st_ino
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += entry.stat().st_ino == wanted
    return found


def read(end: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        data = end.recv(size - len(found))
        assert data
        found += data
    return found


def test_both_ways_pass_and_each_end_ends_the_other(tmp_path: Path) -> None:
    with relayed(tmp_path, refusing) as (bus, inside):
        inside.sendall(b"\0AUTH EXTERNAL 30\r\n")
        assert read(bus, 19) == b"\0AUTH EXTERNAL 30\r\n"
        bus.sendall(GREETING + call())
        assert read(inside, len(GREETING + call())) == GREETING + call()
        refused = call(EVE, Variant("(as)", (["x"] * 20_000,)))
        bus.sendall(refused + call())
        found = b""
        while not found.endswith(call()):
            found += read(inside, 1)
        assert found != call()
        bus.close()
        while inside.recv(4096):
            pass


def test_descriptors_stay_with_their_message(tmp_path: Path) -> None:
    """A stranger's descriptor never comes with the call of another, whatever is left out."""
    strange, own = os.memfd_create("strange"), os.memfd_create("own")
    plain, odd = call(), with_path("/" + "x" * 20_000)
    taking = plain_with_descriptor()
    with relayed(tmp_path, refusing) as (bus, inside):
        bus.sendall(GREETING)
        read(inside, len(GREETING))
        for blob, descriptor in ((odd, strange), (plain_with_descriptor(EVE), strange)):
            socket.send_fds(bus, [blob], [descriptor])
        socket.send_fds(bus, [taking], [own])
        bus.sendall(plain)
        expected, found, passed = taking + plain, b"", list[int]()
        while not found.endswith(expected):
            data, came, _, _ = socket.recv_fds(inside, 4096, 8)
            assert data
            found += data
            passed += came
        assert [os.fstat(one).st_ino for one in passed] == [os.fstat(own).st_ino]
        socket.send_fds(inside, [b"reply"], [own])
        data, came = b"", list[int]()
        while not data.endswith(b"reply"):  # the descriptor comes with the last byte
            more, some, _, _ = socket.recv_fds(bus, 4096, 8)
            assert more
            data, came = data + more, came + some
        assert (data, len(came)) == (b"reply", 1)
        for one in (*passed, *came):
            os.close(one)
    assert holders(strange) == holders(own) == 1
    os.close(strange)
    os.close(own)


def test_descriptors_of_a_reply_come_after_what_was_sent_before_it(tmp_path: Path) -> None:
    """The kernel joins what was written one after the other, and the first is another message."""
    own = os.memfd_create("own")
    with relayed(tmp_path, refusing) as (bus, inside):
        inside.sendall(b"A" * 4000)
        socket.send_fds(inside, [b"B" * 10], [own])
        found = b""
        while True:
            data, came, _, _ = socket.recv_fds(bus, 4096, 8)
            assert data
            found += data
            if came:
                break
        assert found == b"A" * 4000 + b"B" * 10
        os.close(came[0])
    os.close(own)


def test_no_descriptor_is_left_where_the_other_end_has_gone(tmp_path: Path) -> None:
    own = os.memfd_create("own")
    with relayed(tmp_path, refusing) as (bus, inside):
        bus.sendall(GREETING)
        read(inside, len(GREETING))
        inside.shutdown(socket.SHUT_RD)
        with contextlib.suppress(OSError):  # the relay may have seen the end before
            socket.send_fds(bus, [plain_with_descriptor()], [own])
            while bus.recv(4096):
                pass
    assert holders(own) == 1
    (tmp_path / "bus").unlink()
    with relayed(tmp_path, refusing) as (bus, inside):
        bus.close()
        with contextlib.suppress(OSError):
            while True:
                socket.send_fds(inside, [b"reply"], [own])
    assert holders(own) == 1
    os.close(own)


@pytest.mark.parametrize("size", range(1, 12))
def test_a_greeting_ends_where_the_first_message_begins_however_it_is_cut(size: int) -> None:
    said, first = b"REJECTED EXTERNAL DBUS_COOKIE_SHA1 lB\r\nOK 1b\r\n", call()
    greeting, found, rest = Greeting(), b"", b""
    for at in range(0, len(said + first), size):
        own, other = greeting.split((said + first)[at : at + size])
        found, rest = found + own, rest + other
    assert (found, rest) == (said, first)


def test_descriptors_are_not_for_programs_that_are_started(tmp_path: Path) -> None:
    own = os.memfd_create("own")
    one, other = socket.socketpair()
    with one, other:
        socket.send_fds(one, [b"x"], [own])
        _, ancillary, _, _ = other.recvmsg(8, 64, CLOSED_BY_EXEC)
        (came,) = received(ancillary)
        assert not os.get_inheritable(came)
    os.close(came)
    os.close(own)


def test_a_bus_with_a_full_backlog_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "bus"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(str(path))
        listening.listen(0)
        first.connect(str(path))
        relay = BusRelay(str(path), (os.getuid(),), refusing)
        inside = socket.socket(fileno=relay.open())
        with inside:
            os.set_blocking(inside.fileno(), False)
            for _ in range(20):
                os.sched_yield()
                with contextlib.suppress(BlockingIOError):
                    pytest.fail(f"given up: {inside.recv(1)!r} {relay.fault}")
            inside.settimeout(PATIENCE)
            listening.settimeout(PATIENCE)
            listening.accept()[0].close()
            bus, _ = listening.accept()
            with bus:
                bus.sendall(GREETING)
                assert read(inside, len(GREETING)) == GREETING
            relay.close()
        assert relay.join(PATIENCE)


def plain_with_descriptor(sender: str = OLGA) -> bytes:
    """A call that comes with one descriptor: the field of GLib's, number 9, is in its header."""
    made = Gio.DBusMessage.new_method_call("org.gatewayd1", "/x", "org.x.Y", "Do")
    made.set_serial(3)
    made.set_sender(sender)
    passed = Gio.UnixFDList.new()
    passed.append(0)
    made.set_unix_fd_list(passed)
    made.set_body(Variant("(h)", (0,)))
    return bytes(made.to_blob(Gio.DBusCapabilityFlags.UNIX_FD_PASSING))


def test_it_is_closed_though_a_bus_reads_nothing(tmp_path: Path) -> None:
    with relayed(tmp_path, refusing) as (bus, inside):
        inside.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                inside.send(b"x" * 65_536)
        inside.settimeout(PATIENCE)
        assert bus.fileno() >= 0


@pytest.mark.parametrize(("address", "path"), [
    ("unix:path=/run/dbus/system_bus_socket", "/run/dbus/system_bus_socket"),
    ("unix:guid=00,path=/run/a%20b", "/run/a b"), ("unix:abstract=x,guid=00", "\0x"),
    ("unix:path=/a;unix:path=/b", "/a"),
])  # fmt: skip
def test_addresses(address: str, path: str) -> None:
    assert socket_path(address) == path


@pytest.mark.parametrize("address", ["", "unix:", "tcp:host=x,port=1", "unix:dir=/tmp"])
def test_what_is_no_unix_socket_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="no Unix socket"):
        socket_path(address)


def test_who_is_refused_by_the_header() -> None:
    intake = Intake(now=lambda: 5.0)
    judge = MessageGate(intake).judge

    def asked(size: int, signature: str, **more: int) -> str:
        return judge(MessageHeader(**({"kind": 1, "flags": 0, "serial": 1} | more),
                                   size=size, sender=OLGA, signature=signature))  # fmt: skip

    assert asked(FEW_BYTES, "av") == asked(LARGEST, "say") == asked(LARGEST, "s") == ""
    assert asked(LARGEST + 1, "s") == TOO_LARGE
    assert asked(0, "h", descriptors=2) == TOO_MANY_DESCRIPTORS
    allowed = [asked(LARGEST, "a{sv}") for _ in range(2 * (PARSED << 10) // LARGEST)]
    assert allowed == [""] * (len(allowed) // 2) + [BUSY] * (len(allowed) // 2)
    assert asked(FEW_BYTES, "a{sv}") == ""
    assert asked(0, "", kind=MessageKind.SIGNAL) == LEFT_OUT
    assert asked(0, "", kind=MessageKind.RETURN) == ""
    assert intake.take_refusals().count == 0
    assert asked(LARGEST, "a{sv}", flags=NO_REPLY) == BUSY
    assert intake.take_refusals().count == 1


def test_all_of_one_who_is_muted_is_refused() -> None:
    intake = Intake(now=lambda: 5.0)
    judge = MessageGate(intake).judge
    intake.admit(BusMessage(EVE, 0, 0))
    intake.refuse(EVE)
    header = MessageHeader(MessageKind.CALL, 0, 1, 0, EVE)
    assert judge(header) == BUSY
    assert judge(header._replace(sender=OLGA)) == ""
