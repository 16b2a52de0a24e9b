"""A task beside a test ends with it, and its fault fails the test."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.tasks import in_background


async def test_it_runs_until_the_block_ends() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    async with in_background(work()):
        await asyncio.sleep(0)
        assert seen == []
    assert seen == ["ended"]


async def test_its_fault_is_raised() -> None:
    async def fail() -> None:
        raise EOFError

    with pytest.raises(EOFError):
        async with in_background(fail()):
            await asyncio.sleep(0)
