"""The names of users, as the system knows them."""

from __future__ import annotations

import asyncio
import contextlib
import pwd
import re
import threading
from collections.abc import Callable

PATIENCE = 1.0
"""Seconds in which the system has to know a name."""
MAX_KNOWN = 1024
"""Names that are remembered."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}\$?")


def look_up(uid: int) -> str:
    """Return the name of a user; "" where there is none.  Blocks: a directory may be asked."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


class UserNames:
    """The names of users, remembered.  Used on the event loop.

    A directory service may not answer, so each name is asked for on a thread that the end of the
    process does not wait for, one at a time; while one hangs, numbers stand for names.

    ask: returns the name of a uid, "" for none; may block.
    """

    def __init__(self, ask: Callable[[int], str] = look_up) -> None:
        self._ask = ask
        self._names: dict[int, str] = {}
        self._asking: asyncio.Future[None] | None = None

    async def of(self, uid: int) -> str:
        """Return the name of a user, as "olga"; "uid 1000" where it has none or is not known."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while uid not in self._names:
                    if self._asking is None:
                        self._begin(uid)
                    assert self._asking is not None
                    await asyncio.shield(self._asking)
        return self._names.get(uid, f"uid {uid}")

    def _begin(self, uid: int) -> None:
        loop = asyncio.get_running_loop()
        self._asking = loop.create_future()

        def run() -> None:
            try:
                name = self._ask(uid)
            except OSError:
                name = ""
            with contextlib.suppress(RuntimeError):  # the loop is closed: gatewayd has ended
                loop.call_soon_threadsafe(self._learn, uid, name)

        threading.Thread(target=run, name="user-name", daemon=True).start()

    def _learn(self, uid: int, name: str) -> None:
        if len(self._names) >= MAX_KNOWN:
            self._names.clear()
        self._names[uid] = name if _PLAIN.fullmatch(name) else f"uid {uid}"
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.set_result(None)
