"""Work that goes on beside everything else."""

from __future__ import annotations

import asyncio

from gatewayd.cloud.sub_devices.requests import BackgroundTask
from gatewayd.testing.waiting import until


async def test_it_is_done_once_at_a_time() -> None:
    begun, going = list[int](), asyncio.Event()

    async def work() -> None:
        begun.append(len(begun))
        await going.wait()

    errand = BackgroundTask(work)
    errand.begin()
    errand.begin()
    await until(lambda: begun == [0])
    errand.stop()
    assert errand.stop() is None
    errand.begin()
    await until(lambda: begun == [0, 1])
    going.set()
    await errand.close()
    await errand.close()
    errand.begin()
    await until(lambda: begun == [0, 1, 2])
    await errand.close()
