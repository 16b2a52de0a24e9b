"""A fake polkit on a private bus, whose answers a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from gatewayd.dbus.glib import BusThread, Gio, Invocation, Variant, register
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import connect, own

XML = """\
<node>
  <interface name="org.freedesktop.PolicyKit1.Authority">
    <method name="CheckAuthorization">
      <arg name="subject" type="(sa{sv})" direction="in"/>
      <arg name="action_id" type="s" direction="in"/>
      <arg name="details" type="a{ss}" direction="in"/>
      <arg name="flags" type="u" direction="in"/>
      <arg name="cancellation_id" type="s" direction="in"/>
      <arg name="result" type="(bba{ss})" direction="out"/>
    </method>
    <method name="CancelCheckAuthorization">
      <arg name="cancellation_id" type="s" direction="in"/>
    </method>
  </interface>
</node>
"""

Verdict: TypeAlias = tuple[bool, bool]
"""Whether it is authorized, and whether a password would help."""
YES, NO, CHALLENGE = (True, False), (False, False), (False, True)


@dataclass(frozen=True)
class Check:
    """The arguments of a CheckAuthorization."""

    subject: tuple[str, Mapping[str, Any]]
    action: str
    details: Mapping[str, str]
    flags: int


class FakeAuthority:
    """Implements org.freedesktop.PolicyKit1.Authority; it waits where no verdict is set.

    verdicts: by action.
    """

    def __init__(self, **verdicts: Verdict) -> None:
        self.verdicts = {f"org.gatewayd1.{k.replace('_', '-')}": v for k, v in verdicts.items()}
        self.checks: list[Check] = []
        self._waiting: list[tuple[str, Invocation]] = []

    def open(self, address: str) -> Any:
        """Serve; on the thread that is to.  Return the connection."""
        bus = connect(address)
        (info,) = Gio.DBusNodeInfo.new_for_xml(XML).interfaces
        register(bus, "/org/freedesktop/PolicyKit1/Authority", info, self._on_call, None)
        assert own(bus, "org.freedesktop.PolicyKit1") == 1
        return bus

    def settle(self, action: str, verdict: Verdict) -> None:
        """Answer all checks that wait for an action, on the thread that serves."""
        self.verdicts[action] = verdict
        waiting, self._waiting = self._waiting, []
        for asked, invocation in waiting:
            self._answer(asked, invocation)

    def _on_call(self, *call: Any) -> None:
        _, _, _, _, method, arguments, invocation, *_ = call
        if method != "CheckAuthorization":
            invocation.return_value(None)
            return
        subject, action, details, flags, _ = arguments.unpack()
        self.checks.append(Check(subject, action, details, flags))
        self._answer(action, invocation)

    def _answer(self, action: str, invocation: Invocation) -> None:
        if action in self.verdicts:
            authorized, challenge = self.verdicts[action]
            invocation.return_value(Variant("((bba{ss}))", ((authorized, challenge, {}),)))
        else:
            self._waiting.append((action, invocation))


Settle: TypeAlias = Callable[[str, Verdict], Any]


@asynccontextmanager
async def polkit(bus: PrivateBus, authority: FakeAuthority) -> AsyncIterator[Settle]:
    """Have an authority serve on a bus; yields what settles an action later."""
    thread = BusThread(asyncio.get_running_loop())
    thread.start()
    connection = await thread.run(authority.open, bus.address)
    try:
        yield lambda action, verdict: thread.run(authority.settle, action, verdict)
    finally:
        await thread.run(connection.close, None, None)
        await thread.stop()
