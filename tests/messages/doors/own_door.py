"""gatewayd's own broker as a door, on a real mosquitto with passwords."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from gatewayd.device.secret import Secret
from gatewayd.messages.doors.access import OwnBrokerAccess
from gatewayd.messages.doors.door import Door, Retry
from gatewayd.messages.doors.translation import OwnTopics
from gatewayd.messages.intake import MessageIntake
from gatewayd.runtime.clock import SYSTEM_CLOCK
from gatewayd.runtime.tasks import cancel_and_wait
from tests.messages.doors.intakes import CHILD, OTHER, Children, until
from tests.support.mosquitto import Mosquitto, mosquitto

PASSWORD = "correct horse"
OWN = [
    "listener 0 {directory}/socket",
    "use_username_as_clientid true",
    "listener {port} 127.0.0.1",
    "use_username_as_clientid true",
]
USERS = {"gatewayd": PASSWORD, CHILD: "one", OTHER: "two"}
SOON = Retry(0.05, 0.2)


def own_broker() -> contextlib.AbstractContextManager[Mosquitto]:
    """Run a broker as gatewayd's own is configured."""
    return mosquitto(OWN, USERS)


def make_door(broker: Mosquitto, intake: MessageIntake, password: str = PASSWORD) -> Door:
    access = OwnBrokerAccess(broker.socket, lambda: Secret(password.encode()))
    return Door("own", access, OwnTopics(Children()), intake, SYSTEM_CLOCK, SOON)


@contextlib.asynccontextmanager
async def running(door: Door, state: str = "connected") -> AsyncIterator[Door]:
    task = asyncio.create_task(door.run())
    try:
        if state:
            await until(lambda: door.status().state == state, door.status)
        yield door
    finally:
        await cancel_and_wait({task})
