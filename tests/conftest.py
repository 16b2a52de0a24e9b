"""What every test is held to: no task, thread, process or open file left; no blocked loop.

A test marked `jumping_clock` runs, with its asynchronous fixtures, on a loop whose clock jumps.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio
from blockbuster import BlockBuster

from gatewayd.simulator.site import Site
from gatewayd.testing.clock import JumpingLoop
from tests.support import own_network
from tests.support.forked import Forker

hypothesis.settings.register_profile(
    "gatewayd",
    deadline=None,  # how long an example takes says nothing on a busy machine
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # nor how long it takes to make
    derandomize="CI" in os.environ,
)
hypothesis.settings.load_profile("gatewayd")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options by which script/test keeps parallel tests apart, and builds once for all."""
    parser.addoption(
        "--own-network",
        action="store_true",
        help="give each worker of pytest-xdist a network namespace of its own; needs root",
    )
    parser.addoption(
        "--packages",
        type=Path,
        help="directory of the packages that script/deb has built; the tests build their own else",
    )
    parser.addoption(
        "--attacks",
        action="append",
        metavar="TEXT",
        help="attack booted gateways in all ways whose name has this text, and judge times, too; "
        "can be given several times",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Leave the shared network, before any test opens a socket.

    A shell starts what runs in the background with SIGINT ignored, and so would we every process
    that a test interrupts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--own-network") and "PYTEST_XDIST_WORKER" in os.environ:
        own_network.enter()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Set aside the tests themselves, which stay to the end, for the garbage collector.

    Ten thousand of them are millions of objects.  Each full collection, which the product asks for
    when it leaves a bus, would go through all of them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


LONG = ("test_linters.py", "test_two_hours.py")
"""Modules of a test that takes a minute by itself."""
OF_OTHERS = ("interop", "cockpit")
"""Folders whose tests run programs of others: the clouds' SDKs, a browser."""
REAL = re.compile(r"mark\.(integration|namespace|system|root)\b")
"""How a file names its tests with real parts, by which script/test finds the file."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest begin first, so that no worker waits for another at the end.

    Raises UsageError where a test has real parts by a mark that is not in its file.
    """
    real = set()
    for item in items:
        if item.path.parent.name in OF_OTHERS:
            item.add_marker(pytest.mark.integration)
        elif any(REAL.match(f"mark.{one.name}") for one in item.iter_markers()):
            real.add(item.path)
    if unnamed := [str(path) for path in real if not REAL.search(path.read_text())]:
        raise pytest.UsageError(f"real parts by no mark of the file itself: {unnamed}")
    items.sort(key=lambda item: item.path.name not in LONG)


MAY_BLOCK = [
    "gatewayd.simulator.site", "gatewayd.simulator.bus", "gatewayd.simulator.story",
    "gatewayd.simulator.broker.site_broker", "gatewayd.simulator.broker.mosquitto",
    "gatewayd.testing.waiting",
]  # fmt: skip
"""Modules that start processes, or read and write files, for a test: its loop has no other work."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose the event loop of an asynchronous test: a hook of pytest-asyncio 1.4 and later.

    `jumping_clock(loop=...)` may name another class of jumping loops.
    """
    marker = item.get_closest_marker("jumping_clock")
    if marker is None:
        return {"asyncio": asyncio.new_event_loop}
    return {"jumping": marker.kwargs.get("loop", JumpingLoop)}


def _children() -> set[str]:
    """Process ids of our children, from the kernel."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there are none: one call, where most tests have none
        return set()
    found: set[str] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError):  # a thread that ends just now
            found.update(task.read_text().split())
    return found


def _gone(threads: set[threading.Thread], patience: float = 2.0) -> set[threading.Thread]:
    """Return the threads that are still there; one that is just ending is given a moment."""
    end = time.monotonic() + patience
    while (left := {t for t in threads if t.is_alive()}) and time.monotonic() < end:
        time.sleep(0.01)
    return left


@pytest.fixture(scope="session", autouse=True)
def forker() -> Iterator[Forker]:
    """Have the processes of all sites forked."""
    with pytest.MonkeyPatch.context() as patch, Forker() as made:
        patch.setattr(Site, "start_python", staticmethod(made.start))
        yield made


@pytest.fixture(autouse=True)
def no_leaks(forker: Forker) -> Iterator[None]:
    """Fail a test that leaves a thread or a child process."""
    threads, children = set(threading.enumerate()), _children() | forker.processes()[1]
    yield
    left = _gone({t for t in threading.enumerate() if t not in threads and not t.daemon})
    assert not left, f"threads left: {left}"
    server, forked = forker.processes()
    assert not (_children() - server | forked) - children, "child processes left"


@pytest.fixture(scope="session")
def blocking_calls() -> BlockBuster:
    """What watches for calls that block; made once, as it takes longer than many a test."""
    return BlockBuster("gatewayd", excluded_modules=MAY_BLOCK)


@pytest_asyncio.fixture
async def well_behaved_loop(blocking_calls: BlockBuster) -> AsyncIterator[None]:
    """Fail an asynchronous test that blocks the loop or leaves a task."""
    before = asyncio.all_tasks()
    blocking_calls.activate()
    try:
        yield
    finally:
        blocking_calls.deactivate()
    left = {t for t in asyncio.all_tasks() - before if not t.done()} - {asyncio.current_task()}
    assert not left, f"tasks left: {left}"


@pytest.fixture(autouse=True)
def watch_the_loop(request: pytest.FixtureRequest) -> None:
    """Put every asynchronous test under watch."""
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("well_behaved_loop")
