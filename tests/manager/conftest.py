"""A running stage for tests on the jumping clock."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    """The application on fakes, running."""
    async with Stage(MemoryRecords(), FakeCloud()).running() as running:
        yield running
