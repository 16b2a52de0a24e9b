"""A local user who floods the bus name: python -m tests.support.bus_attacker ADDRESS KIND COUNT.

Becomes uid 65534 after its imports, and says "sending" and "sent" on its output.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from gatewayd.dbus.glib import Gio, Variant

NOBODY = 65534
SENDERS = 100
"""Connections of the attacks that need many; a system bus allows a user 256."""
UNREAD = "unread"
RAW = (UNREAD, "values")
"""Attacks of one that packs its messages itself: GLib would be slower at that than the bus is."""
NAMES = 400
"""Names of one connection; a system bus allows 512."""
PATIENCE = 1.0
"""Seconds after which what the bus does not accept is given up."""
SERVICE, PATH, MANAGER = "org.gatewayd1", "/org/gatewayd1", "org.gatewayd1.Manager"
BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
Call = tuple[str, str, Variant]

EMPTY = Variant("()", ())
CALLS: Mapping[str, Callable[[], Call]] = {
    "small": lambda: (MANAGER, "GetDevice", Variant("(s)", ("child-1a",))),
    "string": lambda: (MANAGER, "GetDevice", Variant("(s)", ("x" * 250_000,))),
    "texts": lambda: (MANAGER, "Discover", Variant("(uas)", (1, ["x"] * 31_000))),
    "options": lambda: (
        MANAGER, "PermitJoin",
        Variant("(ua{sv})", (1, {str(n): Variant("b", False) for n in range(9000)})),
    ),
    "values": lambda: (MANAGER, "PermitJoin", Variant("(av)", ([Variant("y", 1)] * 25_000,))),
    "denied": lambda: (MANAGER, "Rename", Variant("(ss)", ("child-1a", "x" * 100_000))),
    "list": lambda: (MANAGER, "ListDevices", EMPTY),
    "descriptors": lambda: (MANAGER, "ListDevices", EMPTY),
    "senders": lambda: (MANAGER, "ListDevices", EMPTY),
    UNREAD: lambda: (MANAGER, "ListDevices", EMPTY),
    "names": lambda: (MANAGER, "ListDevices", EMPTY),
    "signals": lambda: (MANAGER, "DeviceRemoved", Variant("(s)", ("x" * 100_000,))),
    "describe": lambda: ("org.freedesktop.DBus.Introspectable", "Introspect", EMPTY),
    "properties": lambda: ("org.freedesktop.DBus.Properties", "GetAll", Variant("(s)", (MANAGER,))),
}  # fmt: skip
"""Interface, member and arguments of each kind of attack."""


def attack(address: str, kind: str, count: int) -> None:
    """Send so many messages, without waiting for any reply."""
    interface, member, arguments = CALLS[kind]()
    if kind in RAW:
        attack_raw(address, kind, (interface, member, arguments), count)
        return
    buses = [_open(address) for _ in range(SENDERS if kind == "senders" else 1)]
    if kind == "names":
        for number in range(NAMES):
            buses[0].send_message(_request_name(f"org.example.Attack{number}"), 0)
    print("sending", flush=True)
    for number, bus in enumerate(itertools.islice(itertools.cycle(buses), count)):
        bus.send_message(_message(kind, interface, member, arguments), 0)
        if number % 100 == 99:
            bus.flush_sync(None)
    for bus in buses:
        bus.flush_sync(None)
    print("sent", flush=True)
    for bus in buses:
        bus.close_sync(None)


def attack_raw(address: str, kind: str, call: Call, count: int) -> None:
    """Send so many calls, as fast as they are accepted, and read nothing.

    What awaits a reply is given up where the bus accepts no more.
    """
    one = _message(kind, *call)
    with socket.socket(socket.AF_UNIX) as bus:
        bus.connect(address.partition("path=")[2].partition(",")[0])
        user = str(os.getuid()).encode().hex()
        bus.sendall(f"\0AUTH EXTERNAL {user}\r\n".encode())
        bus.recv(4096)
        bus.sendall(b"BEGIN\r\n")
        hello = Gio.DBusMessage.new_method_call(BUS, BUS_PATH, BUS, "Hello")
        bus.sendall(_packed(hello, 1))
        bus.recv(4096)
        packed = [_packed(one, serial) for serial in range(2, 2 + (count if kind == UNREAD else 1))]
        print("sending", flush=True)
        bus.settimeout(PATIENCE if kind == UNREAD else None)
        for blob in itertools.islice(itertools.cycle(packed), count):
            try:
                bus.sendall(blob)
            except (TimeoutError, BrokenPipeError, ConnectionResetError):
                break
        print("sent", flush=True)


def _packed(message: Any, serial: int) -> bytes:
    message.set_serial(serial)
    return bytes(message.to_blob(Gio.DBusCapabilityFlags.NONE))


def _open(address: str) -> Any:
    flags = Gio.DBusConnectionFlags
    mode = flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION
    return Gio.DBusConnection.new_for_address_sync(address, mode, None, None)


def _request_name(name: str) -> Any:
    request = Gio.DBusMessage.new_method_call(BUS, BUS_PATH, BUS, "RequestName")
    request.set_body(Variant("(su)", (name, 4)))
    return request


def _message(kind: str, interface: str, member: str, arguments: Variant) -> Any:
    if kind == "signals":
        message = Gio.DBusMessage.new_signal(PATH, interface, member)
        message.set_destination(SERVICE)
        message.set_body(arguments)
        return message
    message = Gio.DBusMessage.new_method_call(SERVICE, PATH, interface, member)
    message.set_body(arguments)
    if kind != UNREAD:
        message.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
    if kind == "descriptors":
        passed = Gio.UnixFDList.new()
        for _ in range(16):
            passed.append(0)
        message.set_unix_fd_list(passed)
    return message


if __name__ == "__main__":
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    attack(sys.argv[1], sys.argv[2], int(sys.argv[3]))
