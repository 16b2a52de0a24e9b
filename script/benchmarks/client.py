"""A client of gatewayd's bus, with one connection for all calls."""

from __future__ import annotations

import time
from typing import Any, Final

from gatewayd.dbus.glib import Gio, GLib, Variant
from gatewayd.dbus.names import MANAGER, NAME, ROOT

PROPERTIES: Final = "org.freedesktop.DBus.Properties"
BUS: Final = "org.freedesktop.DBus"
_TIMEOUT_MS = 60_000
_NO_ARGUMENTS = Variant("()", ())


class Client:
    """Calls, and waits for the answer.  Raises RuntimeError where that is an error.

    address: of the bus.
    """

    def __init__(self, address: str) -> None:
        flags = Gio.DBusConnectionFlags
        kind = flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION
        self._bus = Gio.DBusConnection.new_for_address_sync(address, kind, None, None)

    def close(self) -> None:
        """Leave the bus."""
        self._bus.close_sync(None)

    def ask(
        self, name: str, path: str, interface: str, method: str, arguments: Variant = _NO_ARGUMENTS
    ) -> Variant:
        """Call any method of anybody."""
        none = Gio.DBusCallFlags.NONE
        try:
            return self._bus.call_sync(
                name, path, interface, method, arguments, None, none, _TIMEOUT_MS, None
            )
        except GLib.Error as error:
            raise RuntimeError(f"{interface}.{method}: {error.message}") from None

    def call(self, method: str) -> Any:  # noqa: ANN401  # whatever D-Bus holds
        """Call a method of the Manager; return its first result."""
        answer = self.ask(NAME, ROOT, MANAGER, method).unpack()
        return answer[0] if answer else None

    def count(self, state: str = "") -> int:
        """Return how many children are in this state; in any, where none is named."""
        counts: dict[str, int] = self.call("CountDevices")
        return counts.get(state, 0) if state else sum(counts.values())


def timed(client: Client, *call: Any) -> float:  # noqa: ANN401  # as `Client.ask` takes them
    """Return the seconds that one call takes, from end to end."""
    before = time.perf_counter()
    client.ask(*call)
    return time.perf_counter() - before
