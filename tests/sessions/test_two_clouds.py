"""Two clouds, one of them dead: the children of the other do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from gatewayd.admission.policy.engine import PolicyContext
from gatewayd.admission.policy.rules import Action, Decision
from gatewayd.cloud.provider import Failed, KeepSecret, LoginFailed, Outcome
from gatewayd.device.identity import DeviceId, Evidence
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from tests.support.fakes import FakeCloud, FakeSession, MemoryRecords
from tests.support.stage import NameRules, Stage

pytestmark = pytest.mark.jumping_clock

CHILDREN = 100
TIMEOUT = 30.0
"""Seconds after which a request to a dead cloud fails: a look-up, TCP and TLS, of 10 s each."""


class TwoClouds(NameRules):
    """Rules that send each child to the cloud of its name."""

    def judge(self, device: DeviceId, evidence: Evidence, census: PolicyContext) -> Decision:
        name = evidence.views[0]["instance"] if evidence.views else ""
        cloud = CloudName("dead" if name.startswith("D") else "cloud", "p", name)
        return Decision(Action.REGISTER, "r", NONE, cloud, (), evidence.trust)


@dataclass
class MortalCloud(FakeCloud):
    """A cloud that does not answer while it is dead."""

    name: str = "dead"
    dead: bool = False

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        if self.dead:
            await asyncio.sleep(TIMEOUT)
            return Failed(Reason("dns-failed"))
        return await super().register(name, keep)

    async def connect(self, name: CloudName, secret: Secret) -> FakeSession:
        if self.dead:
            await asyncio.sleep(TIMEOUT)
            raise LoginFailed(Reason("dns-failed"))
        return await super().connect(name, secret)


async def online(stage: Stage, devices: Iterable[DeviceId]) -> float:
    """Return how long it takes until these children are online, seconds."""
    began = asyncio.get_running_loop().time()
    for device in devices:
        await stage.tape.wait_for(device, "online")
    return asyncio.get_running_loop().time() - began


async def story(dead: MortalCloud, doomed: int) -> tuple[list[float], list[str]]:
    """Return how long the children of the healthy cloud take, and what it was asked.

    They register, all lose their sessions, and log in again; beside so many of the mortal cloud,
    which is dead from the beginning, or dies when its children have registered.
    """
    healthy = FakeCloud()
    stage = Stage(MemoryRecords(), healthy, rules=TwoClouds(), others=(dead,))
    async with stage.running():
        others = [stage.announce(f"DE20-{n}") for n in range(doomed)]
        if not dead.dead:
            await online(stage, others)
        took = [await online(stage, [stage.announce(f"TH20-{n}") for n in range(CHILDREN)])]
        dead.dead = True
        for cloud in (dead, healthy):
            for session in tuple(cloud.online):
                cloud.drop(session.device)
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(3600):
            while len(healthy.calls) < 3 * CHILDREN or len(healthy.online) < CHILDREN:
                await asyncio.sleep(0.1)
        took.append(asyncio.get_running_loop().time() - began)
    return took, healthy.calls


@pytest.mark.parametrize("dead", [True, False], ids=["dead", "dying"])
async def test_a_dead_cloud_costs_a_healthy_one_nothing(dead: bool) -> None:
    """Registration and login take the time and the requests that they take alone."""
    alone = await story(MortalCloud(), 0)
    beside = await story(MortalCloud(dead=dead), CHILDREN)
    assert [round(one, 1) for one in beside[0]] == [round(one, 1) for one in alone[0]]
    assert sorted(beside[1]) == sorted(alone[1])
