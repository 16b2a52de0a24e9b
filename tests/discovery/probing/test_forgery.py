"""What a stranger on the LAN says in the name of a device: it neither hides nor ends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatewayd.discovery.discoverer import LossReason
from gatewayd.testing.contracts.discoverer import running
from gatewayd.testing.waiting import until
from tests.support.cable import CHILD, Cable, laid
from tests.support.toy import NO_TOKEN, Forger, ToyDevice, toys

pytestmark = pytest.mark.namespace

STRANGERS = range(7, 27)


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


async def test_answers_and_a_goodbye_from_elsewhere_hide_no_device(cable: Cable) -> None:
    Forger.allow(cable)
    found, forger = toys(), Forger(cable)
    async with ToyDevice(cable, "ann"), running(found) as sink:
        await until(lambda: "ann" in sink.seen)
        for one in STRANGERS:
            forger.say(b"toy!" + NO_TOKEN + b"ann", one)
        last = (f"10.77.128.{1 + STRANGERS[-1]}",)
        await until(lambda: sink.seen["ann"].addresses == last)
        forged = sink.seen["ann"]
        forger.say(b"toy-ann", STRANGERS[-1])
        await until(lambda: [one.reason for one in sink.lost] == [LossReason.GOODBYE])
        answer = await found.verify(forged)
        assert answer is not None
        assert answer.addresses == (CHILD,)
    forger.close()


async def test_one_that_is_gone_is_not_there_whoever_spoke_for_it(cable: Cable) -> None:
    Forger.allow(cable)
    found, forger = toys(), Forger(cable)
    async with ToyDevice(cable, "ann") as device, running(found) as sink:
        await until(lambda: "ann" in sink.seen)
        device.is_silent = True
        forger.say(b"toy!" + NO_TOKEN + b"ann", 7)
        await until(lambda: sink.seen["ann"].addresses != (CHILD,))
        assert await found.verify(sink.seen["ann"]) is None
    forger.close()
