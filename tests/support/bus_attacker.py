"""A local user who floods the bus name: python -m tests.support.bus_attacker ADDRESS KIND COUNT.

Becomes uid 65534 after its imports, and says "sending" and "sent" on its output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from gatewayd.dbus.glib import Gio, Variant

NOBODY = 65534
Call = tuple[str, Variant]

CALLS: Mapping[str, Callable[[], Call]] = {
    "small": lambda: ("GetDevice", Variant("(s)", ("child-1a",))),
    "string": lambda: ("GetDevice", Variant("(s)", ("x" * 250_000,))),
    "texts": lambda: ("Discover", Variant("(uas)", (1, ["x"] * 31_000))),
    "options": lambda: (
        "PermitJoin", Variant("(ua{sv})", (1, {str(n): Variant("b", False) for n in range(9000)})),
    ),
    "denied": lambda: ("Rename", Variant("(ss)", ("child-1a", "x" * 100_000))),
    "list": lambda: ("ListDevices", Variant("()", ())),
    "descriptors": lambda: ("ListDevices", Variant("()", ())),
}  # fmt: skip
"""Method and arguments of each kind of attack."""


def attack(address: str, kind: str, count: int) -> None:
    """Send so many calls, without waiting for any reply."""
    flags = Gio.DBusConnectionFlags
    mode = flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION
    bus = Gio.DBusConnection.new_for_address_sync(address, mode, None, None)
    method, arguments = CALLS[kind]()
    print("sending", flush=True)
    for number in range(count):
        bus.send_message(_call(method, arguments, kind == "descriptors"), 0)
        if number % 100 == 99:
            bus.flush_sync(None)
    bus.flush_sync(None)
    print("sent", flush=True)
    bus.close_sync(None)


def _call(method: str, arguments: Variant, descriptors: bool) -> Any:
    call = Gio.DBusMessage.new_method_call(
        "org.gatewayd1", "/org/gatewayd1", "org.gatewayd1.Manager", method
    )
    call.set_body(arguments)
    call.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
    if descriptors:
        passed = Gio.UnixFDList.new()
        for _ in range(16):
            passed.append(0)
        call.set_unix_fd_list(passed)
    return call


if __name__ == "__main__":
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    attack(sys.argv[1], sys.argv[2], int(sys.argv[3]))
