"""The clock that jumps."""

from __future__ import annotations

import asyncio
import time

import pytest

from gatewayd.testing import clock


def test_an_hour_passes_at_once() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return loop.time() - start

    began = time.perf_counter()
    assert clock.run(main()) == pytest.approx(3600)
    assert time.perf_counter() - began < 60


def test_a_wait_without_end_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="never happen"):
        clock.run(main())
