"""How a CONNECT is answered when a fault strikes, at either cloud."""

from __future__ import annotations

import pytest

from gatewayd.simulator.alibaba.answers import Manner, granted
from gatewayd.simulator.alibaba.registry import Push
from gatewayd.simulator.faults import Fault
from gatewayd.simulator.mqtt.connack import ACCEPTED, instead, refusal, session
from gatewayd.simulator.mqtt.link import Step


@pytest.mark.parametrize("code", range(1, 6))
def test_a_refusal_closes_the_connection(code: int) -> None:
    refused = refusal(code)
    assert not refused.accepted
    assert refused.steps == (Step(bytes((0x20, 2, 0, code)), close=True),)
    assert instead(Fault("refuse", number=code)) == refused


@pytest.mark.parametrize("name", ["silent", "hang-up", "garbage"])
def test_what_stands_instead_of_an_answer(name: str) -> None:
    spoiled = instead(Fault(name))
    assert spoiled is not None
    assert not spoiled.accepted
    assert spoiled.steps[-1].close


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        (None, Step(ACCEPTED)),
        (Fault("slow", number=2), Step(ACCEPTED, after=2)),
        (Fault("hang-up-after-connack"), Step(ACCEPTED, close=True)),
        (Fault("lose-connack"), Step(close=True)),
    ],
)
def test_how_a_session_opens(fault: Fault | None, step: Step) -> None:
    assert instead(fault) is None
    opened = session(fault)
    assert opened.accepted
    assert opened.steps == (step,)


def test_a_connack_is_lost_with_its_push() -> None:
    lost = granted([Push("/ext/register", {})], Fault("lose-connack"), Manner())
    assert lost.steps == (Step(close=True),)
