"""Power cuts below SQLite: every state that the disk may be left in opens, and nothing is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gatewayd.errors import StoreError
from script.soaking.powercut import trace, workload
from script.soaking.powercut.cuts import cuts, judge, scratch
from script.soaking.powercut.disk import Disk
from script.soaking.powercut.trace import MARKS, Operation

CUTS = 1000
SEED = 20261122

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with scratch() as directory:
        yield directory


@pytest.fixture(scope="module")
def recorded(directory: Path) -> Sequence[Operation]:
    """The operations of a workload of several children on the disk."""
    (directory / "state").mkdir(mode=0o700)
    return trace.record(trace.build(directory), directory / "state", workload.__name__)


def test_the_record_is_complete(recorded: Sequence[Operation], directory: Path) -> None:
    disk = Disk()
    for operation in recorded:
        if operation.name != MARKS:
            disk.do(operation)
    files = {p.name: p.read_bytes() for p in (directory / "state").iterdir() if p.name != MARKS}
    assert disk.whole() == files


async def test_every_state_opens_and_keeps_what_was_promised(
    recorded: Sequence[Operation], directory: Path
) -> None:
    broken = []
    for cut in cuts(recorded, CUTS, SEED):
        broken += await judge(cut, directory / "cut")
    assert not broken


@pytest.mark.parametrize("name", ["state.db-wal", "vault.db-wal"])
async def test_a_sync_that_is_missing_is_seen(
    recorded: Sequence[Operation], directory: Path, name: str
) -> None:
    """The test can fail: a disk that lies, or a log that is not synced, breaks promises."""
    lying = [one for one in recorded if (one.what, one.name) != ("s", name)]
    broken = []
    for cut in cuts(lying, CUTS // 10, SEED):
        try:
            broken += await judge(cut, directory / "cut")
        except StoreError as error:
            broken.append(str(error))
    assert broken


def test_what_may_be_left_of_a_file() -> None:
    disk, rng = Disk(), random.Random(SEED)
    disk.do(Operation("c", "f", 0, b""))
    assert {tuple(disk.cut(rng)) for _ in range(50)} == {(), ("f",)}
    disk.do(Operation("s", "", 0, b""))
    disk.do(Operation("w", "f", 0, b"a" * 1024))
    disk.do(Operation("s", "f", 0, b""))
    disk.do(Operation("w", "f", 0, b"b" * 1024))
    left = {disk.cut(rng)["f"] for _ in range(200)}
    sectors = (b"a" * 512, b"b" * 512)
    assert left == {one + two for one in sectors for two in sectors}
    disk.do(Operation("r", "f", 0, b"g"))
    assert {tuple(disk.cut(rng)) for _ in range(50)} == {("f",), ("g",)}
    disk.do(Operation("u", "g", 0, b""))
    disk.do(Operation("s", "", 0, b""))
    assert not disk.cut(rng)
