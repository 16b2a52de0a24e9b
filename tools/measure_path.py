"""python3 -m tools.measure_path: how much code one child runs from its first mDNS name to online.

It plays a site on the loopback interface (gatewayd/simulator/site.py) with one direct child, and
profiles gatewayd from the first packet of the child until the child is shown as online.  It
prints "modules functions edges": the modules of the product that ran, their functions, and the
pairs of files where one called the other.  Start-up is not counted.  The discovery helper runs in a
thread of the same process here, so that it is counted, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import gatewayd.daemon
from gatewayd.__main__ import run
from gatewayd.discovery.helper.connect import SOCKET_VARIABLE
from gatewayd.discovery.helper.messages import MAX_TO_HELPER
from gatewayd.discovery.helper.server import HelperServer
from gatewayd.discovery.helper.specs import make_discoverer
from gatewayd.plugins import DISCOVERERS, Plugins
from gatewayd.simulator.site import Site

PACKAGE = Path(gatewayd.__file__).parent
LEFT_OUT = ("simulator", "testing")
"""Parts of the package that are no part of the daemon."""
FIRST = "discovery/mdns/"
"""The window opens with the first call into these modules once the recorder is armed."""
HELPER = "discovery helper"
"""The name of the thread that stands for the helper's process."""
SELDOM = 8.0
"""Seconds between two reports of the helper's counters, and between two updates of gatewayd's own
status: they are no part of a child's way, which takes seconds on a busy machine; and gatewayd takes
a helper for lost that is silent for 10 s."""
SETTLED = 3.0
"""Seconds after the start until the daemon rests."""
ANONYMOUS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}
"""Parts of a function that Python runs as functions of their own."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The code that ran.  modules: paths inside the package.  edges: caller and called module.

    helper_alone: the modules that ran in the discovery helper, and not in gatewayd itself.
    """

    modules: list[str]
    functions: int
    edges: list[list[str]]
    helper_alone: list[str]


class Recorder:
    """A profile function (sys.setprofile) that records modules, functions and calls.

    result: the file to write when the child is online.  armed: the file to make when the recorder
    is armed.
    """

    def __init__(self, result: Path, armed: Path) -> None:
        self._result = result
        self._marked = armed
        self._names: dict[str, str] = {}
        self._armed = self._open = False
        self.functions: set[tuple[str, str, int]] = set()
        self.edges: set[tuple[str, str]] = set()
        self.daemon_modules: set[str] = set()

    def arm(self, *_: object) -> None:
        """Open the window at the next packet."""
        self._armed = True
        self._marked.touch()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Take one event of the interpreter."""
        if not self._armed or event not in ("call", "return"):
            return
        module = self._module(frame)
        if event == "return":
            if self._open and module and _shows_online(frame):
                self._close()
        elif module:
            self._open = self._open or module.startswith(FIRST)
            if self._open:
                self._record(frame, module)

    def _record(self, frame: FrameType, module: str) -> None:
        code, caller = frame.f_code, frame.f_back
        if threading.current_thread().name != HELPER:
            self.daemon_modules.add(module)
        if code.co_name not in ANONYMOUS:
            self.functions.add((module, code.co_qualname, code.co_firstlineno))
        if caller is not None and (origin := self._module(caller)) not in ("", module):
            self.edges.add((origin, module))

    def _module(self, frame: FrameType) -> str:
        """Return the path of a module of the daemon inside the package; "" for another file."""
        file = frame.f_code.co_filename
        if file not in self._names:
            path = Path(file)
            name = str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else ""
            self._names[file] = "" if name.startswith(LEFT_OUT) else name
        return self._names[file]

    def _close(self) -> None:
        self._armed = self._open = False
        # another thread may be amid a record, and add to what is looked at
        functions, edges = self.functions.copy(), [list(one) for one in sorted(self.edges.copy())]
        modules = sorted({module for module, _, _ in functions})
        helper_alone = sorted({*modules} - self.daemon_modules.copy())
        found = Measured(modules, len(functions), edges, helper_alone)
        unfinished = self._result.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(found)))
        unfinished.rename(self._result)


def _shows_online(frame: FrameType) -> bool:
    """Whether this frame has just shown a child that is online."""
    child = frame.f_locals.get("child") if frame.f_code.co_name == "show" else None
    return str(getattr(child, "state", "")) == "online"


def daemon(result: Path, arguments: list[str]) -> int:
    """Run gatewayd under the profile; SIGUSR1 arms it."""
    recorder = Recorder(result, _armed(result))
    signal.signal(signal.SIGUSR1, recorder.arm)
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    gatewayd.daemon.STATUS_EVERY = SELDOM
    os.environ[SOCKET_VARIABLE] = str(result.with_suffix(".socket"))
    arguments_of_helper = (os.environ[SOCKET_VARIABLE],)
    threading.Thread(target=helper, args=arguments_of_helper, name=HELPER, daemon=True).start()
    return run(arguments)


def helper(path: str) -> None:
    """Serve the discovery helper at a socket, for ever."""
    asyncio.run(serve(path))


async def serve(path: str) -> None:
    """Serve each connection to a socket as the discovery helper does."""
    make = partial(make_discoverer, load=partial(Plugins.installed().load, DISCOVERERS))

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time
        with suppress(OSError):  # the daemon has ended
            one = HelperServer(make, now, random.random, lambda _: None, health_every=SELDOM)
            await one.serve(reader, writer)

    server = await asyncio.start_unix_server(connected, path, limit=MAX_TO_HELPER)
    await server.serve_forever()


async def measure() -> Measured:
    """Play one child; return what was recorded."""
    with tempfile.TemporaryDirectory(prefix="gatewayd-path-") as name:
        result = Path(name) / "result.json"
        options = ("--children", "0", "--late", "1", "--seed", "89")
        async with Site(Path(name), plant_options=options).open() as site:
            (child,) = site.plant["serials"]
            await site.start("tools.measure_path", str(result))
            await asyncio.sleep(SETTLED)
            assert site.daemon is not None
            site.daemon.send_signal(signal.SIGUSR1)
            # on a busy machine the child could be online before the signal is served
            await site.until(_made(_armed(result)), "the recorder to be armed")
            await site.ask(do="announce", child=child)
            await site.until(_made(result), f"{child} to be online")
            return Measured(**json.loads(result.read_text()))


def _armed(result: Path) -> Path:
    return result.with_suffix(".armed")


def _made(file: Path) -> Callable[[], Coroutine[Any, Any, bool]]:
    """Return what says whether a file is there."""

    async def made() -> bool:
        return await asyncio.to_thread(file.exists)

    return made


def main() -> int:
    """Print the counts, or with arguments run as the daemon that is measured."""
    if len(sys.argv) > 1:
        return daemon(Path(sys.argv[1]), sys.argv[2:])
    found = asyncio.run(measure())
    modules, edges = len(found.modules), len(found.edges)
    print(f"modules {modules} functions {found.functions} edges {edges}")
    alone = len(found.helper_alone)
    print(
        f"of the modules, {modules - alone} run in gatewayd, {alone} in its discovery helper alone"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
