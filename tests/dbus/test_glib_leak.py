"""Whatever this GLib does with invocations: with what was chosen, none is left."""

from __future__ import annotations

import asyncio

from gatewayd.dbus import glib_leak
from gatewayd.dbus.glib import BusThread


async def test_with_the_remedy_that_was_chosen_nothing_is_left() -> None:
    thread = BusThread(asyncio.get_running_loop())
    thread.start()

    def left() -> list[bool]:
        free = glib_leak.choose(thread)
        probe = glib_leak._Probe(thread)
        try:
            return [not probe.dies(free) for _ in range(5)]
        finally:
            probe.close()

    assert not any(await thread.run(left))
    await thread.stop()
