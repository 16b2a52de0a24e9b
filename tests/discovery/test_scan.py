"""Looking anew, as long as somebody wants it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gatewayd.discovery.supervisor import RESCAN_EVERY, Scan
from gatewayd.errors import InvalidArgs
from gatewayd.testing import clock


class Scene:
    """A scan that runs, and what was looked for."""

    def __init__(self) -> None:
        self.looked: list[tuple[str, float]] = []
        self._now = asyncio.get_running_loop().time
        self.scan = Scan(("mdns", "static"), self._rescan, self._now)

    async def _rescan(self, name: str) -> None:
        self.looked.append((name, self._now()))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.scan.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def play(act: Callable[[Scene], Awaitable[None]]) -> list[tuple[str, float]]:
    async def main() -> list[tuple[str, float]]:
        scene = Scene()
        async with scene.running():
            await act(scene)
        return scene.looked

    return clock.run(main())


def test_it_looks_at_once_and_again_until_the_time_is_over() -> None:
    async def act(scene: Scene) -> None:
        scene.scan.begin(40, ["mdns"])
        await asyncio.sleep(500)

    assert play(act) == [("mdns", 0.0), ("mdns", RESCAN_EVERY), ("mdns", 2 * RESCAN_EVERY)]


def test_none_is_all() -> None:
    async def act(scene: Scene) -> None:
        scene.scan.begin(5, [])
        await asyncio.sleep(100)

    assert play(act) == [("mdns", 0.0), ("static", 0.0)]


def test_another_wish_replaces_the_first_and_0_ends_it() -> None:
    async def act(scene: Scene) -> None:
        scene.scan.begin(900, ["mdns"])
        await asyncio.sleep(1)
        scene.scan.begin(900, ["static", "static"])
        await asyncio.sleep(1)
        scene.scan.begin(0, [])
        await asyncio.sleep(2000)
        scene.scan.begin(1, ["mdns"])
        await asyncio.sleep(1)

    assert play(act) == [("mdns", 0.0), ("static", 1.0), ("mdns", 2002.0)]


@pytest.mark.parametrize(("seconds", "names"), [(901, ["mdns"]), (60, ["mdns", "upnp"])])
def test_what_cannot_be_is_refused(seconds: int, names: list[str]) -> None:
    async def act(scene: Scene) -> None:
        with pytest.raises(InvalidArgs):
            scene.scan.begin(seconds, names)
        await asyncio.sleep(100)

    assert play(act) == []
