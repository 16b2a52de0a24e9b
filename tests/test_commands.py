"""What an operator may ask for, and what is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from gatewayd.errors import (
    AmbiguousId,
    CallerError,
    InvalidArgs,
    NoSuchDevice,
    NoSuchProvider,
    NotAdmitted,
    WrongState,
)
from gatewayd.testing import clock
from tests.fakes import FakeCloud, MemoryRegister
from tests.stage import Stage


def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Stage(MemoryRegister(), FakeCloud()).running() as stage:
            await scene(stage)

    clock.run(main())


def test_an_approval_is_on_record_when_the_call_returns() -> None:
    async def scene(stage: Stage) -> None:
        device = stage.announce("stranger")
        await stage.tape.wait_for(device, "pending")
        await stage.flow.commands.approve(device[:9], "cloud", "uid 1000")
        record = stage.register[device]
        assert (record.admission, record.verdict) == ("operator", "admitted")
        view = await stage.tape.wait_for(device, "online")
        assert view.admission == "operator"
        assert "uid 1000" in " ".join(step.text for step in view.history)

    play(scene)


@pytest.mark.parametrize(
    ("name", "provider", "error"),
    [("stranger", "nowhere", NoSuchProvider), ("TH20-1", "", WrongState)],
)
def test_an_approval_that_cannot_be(name: str, provider: str, error: type[CallerError]) -> None:
    async def scene(stage: Stage) -> None:
        device = stage.announce(name)
        await stage.tape.wait_for(device, "online" if name == "TH20-1" else "pending")
        with pytest.raises(error):
            await stage.flow.commands.approve(device, provider, "uid 0")

    play(scene)


def test_a_cloud_name_belongs_to_one_child() -> None:
    async def scene(stage: Stage) -> None:
        first = stage.announce("stranger")
        await stage.tape.wait_for(first, "pending")
        await stage.flow.commands.approve(first, "", "uid 0")
        await stage.tape.wait_for(first, "online")
        second = stage.announce("other")
        stage.lan.known[second] = stage.lan.known[first]
        await stage.tape.wait_for(second, "pending")
        with pytest.raises(NotAdmitted, match="has the cloud name"):
            await stage.flow.commands.approve(second, "", "uid 0")

    play(scene)


def test_a_rejection_survives_a_restart() -> None:
    async def main() -> None:
        register, cloud = MemoryRegister(), FakeCloud()
        async with Stage(register, cloud).running() as stage:
            device = stage.announce("TH20-1")
            await stage.tape.wait_for(device, "online")
            await stage.flow.commands.reject(device, "not \x1bours", "uid 0")
            await stage.tape.wait_for(device, "rejected")
            assert "not ours" in stage.tape.shown[device].explanation
        async with Stage(register, cloud).running() as stage:
            stage.announce("TH20-1")
            assert (await stage.tape.wait_for(device, "rejected")).admission == "operator"

    clock.run(main())


def test_a_forgotten_child_begins_again_as_a_stranger() -> None:
    async def scene(stage: Stage) -> None:
        device = stage.announce("stranger")
        await stage.tape.wait_for(device, "pending")
        await stage.flow.commands.approve(device, "", "uid 0")
        await stage.tape.wait_for(device, "online")
        await stage.flow.commands.forget(device, "uid 0")
        await stage.tape.wait_for(device, "pending")
        assert not stage.register.rows
        assert not stage.register.slots

    play(scene)


def test_reregister_wants_the_id_twice_and_a_child_that_was_registered() -> None:
    async def scene(stage: Stage) -> None:
        device = stage.announce("stranger")
        await stage.tape.wait_for(device, "pending")
        with pytest.raises(InvalidArgs, match="twice"):
            await stage.flow.commands.reregister(device, "child-", "uid 0")
        with pytest.raises(WrongState, match="is pending, not registered"):
            await stage.flow.commands.reregister(device, device, "uid 0")

    play(scene)


def test_a_name_is_kept() -> None:
    async def scene(stage: Stage) -> None:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        await stage.flow.commands.rename(device, "Dock \x07door", "uid 0")
        assert stage.tape.shown[device].name == "Dock door"
        assert stage.register[device].label == "Dock door"
        with pytest.raises(InvalidArgs):
            await stage.flow.commands.rename(device, "\x07", "uid 0")

    play(scene)


def test_a_child_is_found_by_id_by_its_beginning_or_by_cloud_id() -> None:
    async def scene(stage: Stage) -> None:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        resolve = stage.flow.commands.resolve
        assert resolve(device) == resolve(device[:10]) == resolve("p/TH20-1") == device
        other = stage.announce("TH20-2")
        await stage.tape.wait_for(other, "online")
        with pytest.raises(AmbiguousId):
            resolve("child-")
        with pytest.raises(NoSuchDevice):
            resolve("nobody")

    play(scene)


def test_retry_is_for_those_who_wait() -> None:
    async def scene(stage: Stage) -> None:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        with pytest.raises(WrongState):
            await stage.flow.commands.retry(device, "uid 0")

    play(scene)


def test_a_dry_run_says_what_policy_would() -> None:
    async def scene(stage: Stage) -> None:
        device = stage.announce("stranger")
        await stage.tape.wait_for(device, "pending")
        action, rule, reasons = stage.flow.commands.test_admission(device)
        assert (action, rule) == ("ask", "r")
        assert reasons == ("no-rule",)

    play(scene)
