"""How a CONNECT is answered when a fault strikes, at either cloud."""

from __future__ import annotations

import pytest

from gatewayd.simulator.alibaba.answers import PushOptions, granted
from gatewayd.simulator.alibaba.registry import RegistrationPush
from gatewayd.simulator.faults import SimulatedFault
from gatewayd.simulator.mqtt.connack import ACCEPTED, instead, refusal, session
from gatewayd.simulator.mqtt.link import ReplyStep


@pytest.mark.parametrize("code", range(1, 6))
def test_a_refusal_closes_the_connection(code: int) -> None:
    refused = refusal(code)
    assert not refused.accepted
    assert refused.steps == (ReplyStep(bytes((0x20, 2, 0, code)), close=True),)
    assert instead(SimulatedFault("refuse", number=code)) == refused


@pytest.mark.parametrize("name", ["silent", "hang-up", "garbage"])
def test_what_stands_instead_of_an_answer(name: str) -> None:
    spoiled = instead(SimulatedFault(name))
    assert spoiled is not None
    assert not spoiled.accepted
    assert spoiled.steps[-1].close


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        (None, ReplyStep(ACCEPTED)),
        (SimulatedFault("slow", number=2), ReplyStep(ACCEPTED, after=2)),
        (SimulatedFault("hang-up-after-connack"), ReplyStep(ACCEPTED, close=True)),
        (SimulatedFault("lose-connack"), ReplyStep(close=True)),
    ],
)
def test_how_a_session_opens(fault: SimulatedFault | None, step: ReplyStep) -> None:
    assert instead(fault) is None
    opened = session(fault)
    assert opened.accepted
    assert opened.steps == (step,)


def test_a_connack_is_lost_with_its_push() -> None:
    lost = granted(
        [RegistrationPush("/ext/register", {})], SimulatedFault("lose-connack"), PushOptions()
    )
    assert lost.steps == (ReplyStep(close=True),)
