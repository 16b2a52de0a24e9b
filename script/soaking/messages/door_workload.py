"""python3 -m script.soaking.messages.door_workload DIRECTORY SOCKET [drain]: gatewayd's own door.

It is connected to a real broker, and stores what children say in DIRECTORY; no cloud is there, so
that all of it stays.  "connected" is written to the standard output when it is; "drain" ends it
once nothing more comes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret
from gatewayd.messages.door_settings import OWN_DOOR
from gatewayd.messages.doors.access import OwnBrokerAccess
from gatewayd.messages.doors.doors import DoorParts, Doors
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from gatewayd.messages.relay import ChildStanding, MessageRelay
from gatewayd.messages.settings import ChildMessageSettings, MessageSettings
from gatewayd.runtime.clock import SYSTEM_CLOCK
from gatewayd.runtime.tasks import cancel_and_wait

PASSWORD = "of the campaign"  # noqa: S105  # of a broker on the loopback interface
CHILDREN = tuple(DeviceId(f"child-{number:012x}") for number in range(5))
QUIET = 1.5
"""Seconds without a message after which nothing more comes."""
CHILD = ChildMessageSettings(rate=10_000, share=1 << 30)


class _Children:
    """The directory of the campaign's children."""

    def find(self, key: ChildKey, text: str) -> DeviceId | None:
        return DeviceId(text) if key is ChildKey.ID and text in CHILDREN else None


async def work(directory: Path, socket: Path, *, drain: bool) -> None:
    """Be a door, until nothing more comes, or for ever."""
    standing = ChildStanding(lambda _: True, lambda _: False, lambda _: "")
    settings = MessageSettings(child=CHILD, keep=1 << 31)
    relay = MessageRelay(settings, directory, standing, SYSTEM_CLOCK)
    await relay.open((OWN_DOOR,))

    def no_secret(_credential: str, _file: Path | None) -> Secret:
        raise AssertionError("no broker of the site is configured")

    parts = DoorParts(relay, _Children(), SYSTEM_CLOCK, no_secret, "host", directory)
    doors = Doors(parts, {}, OwnBrokerAccess(socket, lambda: Secret(PASSWORD.encode())))
    services = [*relay.services(), *doors.services()]
    running = {asyncio.ensure_future(service()) for service in services}
    try:
        while doors.states()[OWN_DOOR][0] != "connected":
            await asyncio.sleep(0.002)
        sys.stdout.write("connected\n")
        sys.stdout.flush()
        before = -1
        while (received := relay.statistics().total.received) > before or not drain:
            before = received
            await asyncio.sleep(QUIET)
    finally:
        await cancel_and_wait(running)
        await relay.aclose()


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), Path(sys.argv[2]), drain="drain" in sys.argv[3:]))
