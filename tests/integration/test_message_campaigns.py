"""script/soak messages, shortened: kills and power cuts, and no message is lost."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gatewayd.errors import StoreError
from script.soaking.messages import workload
from script.soaking.messages.cuts import judge_messages, message_cuts
from script.soaking.messages.gateway import kill_gateways
from script.soaking.messages.kill_loop import kill_relays
from script.soaking.messages.marks import (
    ChildMarks,
    lost,
    out_of_order,
    read_marks,
    repeated_at_once,
    stored_twice,
)
from script.soaking.messages.silence import be_silent
from script.soaking.powercut import trace
from script.soaking.powercut.cuts import scratch
from script.soaking.powercut.trace import Operation

KILLS, GATEWAY_KILLS, CUTS, SEED = 8, 3, 40, 20261129
SILENCE = 1.5
"""Seconds."""

# None of these is asynchronous: the played door writes its marks on the loop.
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with scratch() as directory:
        yield directory


@pytest.fixture(scope="module")
def recorded(directory: Path) -> Sequence[Operation]:
    """The operations of a few runs of the relay on the disk."""
    (directory / "state").mkdir(mode=0o700)
    return trace.record(trace.build(directory), directory / "state", workload.__name__)


def test_no_kill_loses_a_message_or_its_order(tmp_path: Path) -> None:
    tally = asyncio.run(kill_relays(tmp_path, KILLS, SEED))
    assert not tally.wrong
    assert tally.kills == KILLS
    assert tally.acknowledged > KILLS


@pytest.mark.parametrize(("cloud", "route"), [("alibaba", ""), ("huawei", "certificate")])
def test_no_kill_of_gatewayd_loses_what_a_broker_has_acknowledged(cloud: str, route: str) -> None:
    with tempfile.TemporaryDirectory(prefix="soak-") as short:  # for the path of a socket
        campaign = kill_gateways(Path(short), GATEWAY_KILLS, SEED, cloud=cloud, route=route)
        tally = asyncio.run(campaign)
    assert not tally.wrong
    assert tally.acknowledged


def test_no_power_cut_loses_a_message_or_its_order(
    recorded: Sequence[Operation], directory: Path
) -> None:
    broken = []
    for cut in message_cuts(recorded, CUTS, SEED):
        broken += asyncio.run(judge_messages(cut, directory / "cut"))
    assert not broken


@pytest.mark.namespace
def test_no_silent_host_keeps_a_known_child_from_connecting() -> None:
    tally = asyncio.run(be_silent(SILENCE))
    assert not tally.wrong
    assert tally.connected
    assert 0 < tally.most < tally.tried


def test_a_log_that_is_not_synced_is_seen(recorded: Sequence[Operation], directory: Path) -> None:
    """The test can fail: a disk that lies breaks what was promised."""
    lying = [one for one in recorded if (one.what, one.name) != ("s", "messages.db-wal")]
    broken = []
    for cut in message_cuts(lying, CUTS // 2, SEED):
        try:
            broken += asyncio.run(judge_messages(cut, directory / "cut"))
        except StoreError as error:
            broken.append(str(error))
    assert broken


def test_the_laws_can_be_broken() -> None:
    marks = read_marks(
        [
            b"offered a 0 7", b"offered a 1 8", b"offered a 2 9", b"settled a 1", b"settled a 2",
            b"received a 2", b"received a 1", b"received a 2", b"accepted a 2", b"sett",
        ]
    )["a"]  # fmt: skip
    assert marks == ChildMarks({0: 7, 1: 8, 2: 9}, {1, 2}, [2, 1, 2], {2})
    assert lost(marks) == [1]
    assert not lost(marks, [1])
    assert marks.unacknowledged == [0]
    assert marks.repeats == 1
    assert out_of_order(marks.received) == [1]
    assert not out_of_order([0, 2, 0, 2, 3])
    assert stored_twice([1, 2, 1]) == [1]
    assert repeated_at_once([0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5]) == 3
    assert repeated_at_once([0, 1, 2]) == 0
