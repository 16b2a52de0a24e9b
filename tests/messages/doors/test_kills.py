"""The campaign of script/soak messages, shortened: the door or its broker is killed, by SIGKILL."""

from __future__ import annotations

from pathlib import Path

import pytest

from script.soaking.messages.door_kills import kill_brokers, kill_doors

pytestmark = pytest.mark.integration


async def test_nothing_that_was_acknowledged_is_lost_with_the_door(tmp_path: Path) -> None:
    tally = await kill_doors(tmp_path, 6, seed=1)
    assert not tally.wrong
    assert tally.kills == 6
    assert tally.stored >= tally.acknowledged > 100


async def test_nothing_that_has_a_receipt_is_lost_with_the_broker(tmp_path: Path) -> None:
    tally = await kill_brokers(tmp_path, 2, seed=1)
    assert not tally.wrong
    assert tally.kills == 2
    assert tally.receipts > 100
