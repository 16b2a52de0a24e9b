"""A disk that is really full, twice: old messages make room for new ones."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from gatewayd.device.message import OnFull
from gatewayd.messages.outbox import outbox
from gatewayd.messages.outbox.file import NAME, RESERVE
from gatewayd.messages.settings import MIB, ChildMessageSettings, MessageSettings
from gatewayd.testing.waiting import until
from tests.support.relays import ALICE, BOB, RunningRelay, running_relay

IN_A_SMALL_DISK = 'mount -t tmpfs -o size=48m tmpfs "$1" && exec "$2" -m "$3" "$1" "$4"'
SAID = 3000
"""Messages that wait before the disk is full."""


def fill(directory: Path) -> Path:
    """Write until nothing more fits."""
    filler = directory / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return filler


async def say(running: RunningRelay, count: int, size: int = 200) -> None:
    for number in range(count):
        running.say(b"%06d" % running.said + bytes(size))
        if number % 300 == 0:
            await running.all_settled()
    await running.all_settled()


async def on_a_small_disk(directory: Path, on_full: OnFull) -> None:
    outbox.RETRY = outbox.TEND = 0.05
    child = ChildMessageSettings(on_full=on_full, rate=10_000, share=8 * MIB)
    state = directory / "state"
    settings = MessageSettings(commit_delay=0, keep=16 * MIB, child=child)
    async with running_relay(state, settings) as running:
        await say(running, SAID)
        assert (state / RESERVE).exists()
        for _ in range(2):
            before = dict(running.settled)
            filler = fill(directory)
            # enough to grow the file, if old messages did not make room
            await say(running, 6000)
            shown = running.relay.statistics()
            assert shown.state == "full", shown
            new = [why for payload, why in running.settled if payload not in before]
            if on_full is OnFull.REFUSE:
                assert "total" in new
                assert shown.total.waiting > SAID // 2
            else:
                assert set(new) == {None}
                assert shown.total.dropped["total"] >= 5000
            filler.unlink()
            await until(lambda: running.relay.statistics().state == "running")
            assert (state / RESERVE).exists()
            await say(running, 100)
        waiting = running.relay.statistics().total.waiting
        running.connect()
        await running.accepted(waiting)
        await running.empty()
        accepted = running.cloud.accepted[ALICE]
        assert accepted == sorted(accepted)
        dropped = sum(running.relay.statistics().total.dropped.values())
        assert waiting + dropped == running.said
    async with running_relay(state, settings) as running:
        assert running.relay.statistics().total.waiting == 0


async def full_while_the_cloud_takes_all(directory: Path, on_full: OnFull) -> None:
    """Nothing gives way: what is sent makes the room for what comes."""
    outbox.RETRY = outbox.TEND = 0.05
    child = ChildMessageSettings(on_full=on_full, rate=10_000)
    settings = MessageSettings(commit_delay=0.01, child=child)
    async with running_relay(directory / "state", settings) as running:
        running.connect()
        await say(running, 50)
        fill(directory)
        while running.relay.statistics().state != "full" or running.said < 2000:
            await say(running, 20)
        await running.accepted(running.said)
        assert {why for _, why in running.settled} == {None}
        assert not running.relay.statistics().total.dropped


async def full_at_the_start(directory: Path, _: OnFull) -> None:
    outbox.RETRY = outbox.TEND = 0.05
    state = directory / "state"
    async with running_relay(state) as running:
        await say(running, 50)
    fill(directory)
    async with running_relay(state) as running:
        assert running.relay.statistics().total.waiting == 50
        running.say("new", BOB)
        await running.all_settled()
        running.connect()
        running.connect(BOB)
        await running.accepted(50)
        await running.accepted(1, BOB)
        await running.empty()
        (directory / "filler").unlink()
        await until((state / RESERVE).exists)
    assert (state / NAME).exists()


async def read_only_at_the_start(directory: Path, _: OnFull) -> None:
    """All that waits can be sent; nothing new is settled until the disk can be written."""
    outbox.RETRY = outbox.TEND = 0.05
    state = directory / "state"
    async with running_relay(state) as running:
        await say(running, 50)
    subprocess.run(["mount", "-o", "remount,ro", str(directory)], check=True)  # noqa: ASYNC221  # no loop to block
    async with running_relay(state) as running:
        running.connect()
        await running.accepted(50)
        running.say("new", BOB)
        await until(lambda: running.relay.statistics().state == "blocked")
        assert not running.settled
        subprocess.run(["mount", "-o", "remount,rw", str(directory)], check=True)  # noqa: ASYNC221  # no loop to block
        await running.all_settled()
        await until(lambda: running.relay.statistics().total.waiting == 1)
    async with running_relay(state) as running:
        assert list(running.relay.statistics().children) == [BOB]


TRIALS = {
    "full": on_a_small_disk,
    "live": full_while_the_cloud_takes_all,
    "start": full_at_the_start,
    "readonly": read_only_at_the_start,
}


@pytest.mark.integration
@pytest.mark.namespace
@pytest.mark.parametrize(
    "trial",
    [
        "full drop-oldest",
        "full refuse",
        "live drop-oldest",
        "live refuse",
        "start drop-oldest",
        "readonly drop-oldest",
    ],
    ids=lambda trial: trial.replace(" ", "-"),
)
def test_a_full_disk(tmp_path: Path, trial: str) -> None:
    command = ["unshare", "-rm", "sh", "-c", IN_A_SMALL_DISK, "sh"]
    done = subprocess.run(
        [*command, str(tmp_path), sys.executable, "tests.messages.test_full_disk", trial],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    what, _, reaction = sys.argv[2].partition(" ")
    asyncio.run(TRIALS[what](Path(sys.argv[1]), OnFull(reaction)))
