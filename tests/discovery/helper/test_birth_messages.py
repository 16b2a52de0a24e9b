"""Births on their way to the helper, and what it may ask for in return."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from gatewayd.discovery.births.port import Birth, BirthMessage, BirthRequest, DoorLink
from gatewayd.discovery.helper.messages import (
    DiscovererSpec,
    MalformedMessage,
    decode_to_gatewayd,
    decode_to_helper,
    encode_to_gatewayd,
    encode_to_helper,
)
from gatewayd.testing.waiting import until
from tests.discovery.helper.test_helper import Scene, Toy, running

KINDS = {"fake": "toy"}
BIRTH = Birth("fake", "plant", "a/ü/config", bytes(range(256)), True, 12.5)
REQUEST = BirthRequest("fake", "plant", "tasmota", ("plug",))


@pytest.mark.parametrize("message", [BIRTH, DoorLink("fake", "plant", True)])
def test_what_comes_from_a_door_arrives_as_it_was(message: BirthMessage) -> None:
    assert decode_to_helper(encode_to_helper(message), KINDS, 0.0) == message


@pytest.mark.parametrize("request_", [REQUEST, BirthRequest("fake", "plant")])
def test_a_request_arrives_as_it_was(request_: BirthRequest) -> None:
    assert decode_to_gatewayd(encode_to_gatewayd(request_), KINDS, 0.0) == request_


@pytest.mark.parametrize(
    "changed",
    [
        {"source": "other"},
        {"names": ["x"] * 5},
        {"names": [7]},
        {"names": ["x" * 256]},
        {"names": "x"},
        {"door": 7},
        {"dialect": "x" * 256},
    ],
)
def test_a_request_that_may_not_be_is_malformed(changed: dict[str, object]) -> None:
    written = json.loads(encode_to_gatewayd(REQUEST)) | changed
    with pytest.raises(MalformedMessage):
        decode_to_gatewayd(json.dumps(written).encode(), KINDS, 0.0)


@dataclass
class ToyReceiver(Toy):
    """A discoverer that reads births."""

    received: list[BirthMessage] = field(default_factory=list)
    request: Callable[[BirthRequest], None] = lambda _: None

    def attach(self, request: Callable[[BirthRequest], None]) -> None:
        self.request = request

    async def receive(self, message: BirthMessage) -> None:
        self.received.append(message)


async def test_births_pass_and_requests_come_back() -> None:
    made: list[ToyReceiver] = []

    def make(_: DiscovererSpec) -> ToyReceiver:
        made.append(ToyReceiver())
        return made[-1]

    scene, requests = Scene(make), list[BirthRequest]()
    scene.client.on_request = requests.append
    assert not await scene.client.pass_on(BIRTH), "no helper runs yet"
    async with running(scene):
        assert await scene.client.pass_on(DoorLink("fake", "plant", True))
        assert await scene.client.pass_on(BIRTH)
        await until(lambda: len(made[0].received) == 2)
        assert made[0].received[1] == BIRTH
        made[0].request(REQUEST)
        await until(lambda: requests == [REQUEST])
        scene.client.faults = {"fake": "it failed"}
        assert not await scene.client.pass_on(BIRTH)


async def test_births_for_a_discoverer_that_reads_none_are_dropped() -> None:
    async with running() as scene:
        assert await scene.client.pass_on(BIRTH)
        scene.toy.see()
        await until(lambda: bool(scene.sink.seen))
        assert scene.client.counters()["discovery-restarts"] == 0
