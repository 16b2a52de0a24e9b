"""mqtt.js as it is publishes through mosquitto to a door, and gets receipts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.vendor_process import vendor
from tests.messages.doors.intakes import CHILD, Intake
from tests.messages.doors.own_door import USERS, make_door, own_broker, running


@pytest.mark.parametrize("version", [4, 5])
async def test_messages_arrive_in_order(version: int) -> None:
    with own_broker() as broker:
        intake = Intake()
        facts = {"port": broker.port, "user": CHILD, "password": USERS[CHILD]}
        async with running(make_door(broker, intake)), vendor("node/publisher.js", facts) as sdk:
            await sdk.do("connect", version=version)
            payloads = [str(number) for number in range(300)]
            topic = f"c/{CHILD}/up/properties"
            assert await sdk.do("publish", topic=topic, payloads=payloads) == 300
            received = await intake.until(300)
            assert [message.payload.decode() for message in received] == payloads


async def test_a_receipt_comes_back() -> None:
    with own_broker() as broker:
        facts = {"port": broker.port, "user": CHILD, "password": USERS[CHILD]}
        async with running(make_door(broker, Intake())), vendor("node/publisher.js", facts) as sdk:
            await sdk.do("connect", version=5)
            request: dict[str, Any] = {"topic": f"c/{CHILD}/up/properties", "payload": "{}"}
            answer = await sdk.do("ask", response=f"c/{CHILD}/down/receipt", **request)
            assert answer == ["stored", "7"]
