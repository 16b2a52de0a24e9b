"""gatewayd with counters: the work of each child's way to online, counted in the real process.

python3 -m tests.support.counted_daemon RESULT ARGUMENTS runs gatewayd.  SIGUSR1 opens the window;
SIGUSR2 closes it, and writes the counts to RESULT as JSON.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from gatewayd.admission.policy import engine

STORES = ("state.db", "vault.db")


class Counters:
    """The counters of this process: SQL in the stores, by first word, while the window is open;
    the groups that the store is given, and the turns of the loop in which the manager's mailbox is
    emptied; and the decisions of the policy, from the start on.

    result: the file for the counts.
    """

    def __init__(self, result: Path) -> None:
        self._result, self._open = result, False
        self._statements: Counter[str] = Counter()
        self._decisions = self._groups = self._deliveries = 0
        self._delivering = False

    def install(self) -> None:
        """Count from now on; to be called before gatewayd is imported."""
        sqlite3.connect = self._traced(sqlite3.connect)
        engine.decide = self._counted(engine.decide)
        from gatewayd.manager import manager  # noqa: PLC0415  # what it imports is counted
        from gatewayd.storage import commit_thread  # noqa: PLC0415  # with it comes the engine

        thread, owner = commit_thread.CommitThread, manager.DeviceManager
        setattr(thread, "_hand_over", self._noted(thread._hand_over, self._group))  # noqa: B010  # a method is replaced
        setattr(owner, "_handle", self._noted(owner._handle, self._event))  # noqa: B010  # a method is replaced
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._end)

    def _begin(self, *_: object) -> None:
        self._open = True

    def _end(self, *_: object) -> None:
        self._open = False
        unfinished = self._result.with_suffix(".new")
        unfinished.write_text(
            json.dumps(
                {
                    "statements": self._statements,
                    "decisions": self._decisions,
                    "groups": self._groups,
                    "deliveries": self._deliveries,
                }
            )
        )
        unfinished.rename(self._result)

    def _traced(self, connect: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(connect)
        def traced(database: Any, *arguments: Any, **options: Any) -> Any:
            connection = connect(database, *arguments, **options)
            if str(database).endswith(STORES):
                connection.set_trace_callback(self._statement)
            return connection

        return traced

    def _statement(self, text: str) -> None:
        if self._open:
            self._statements[text.split(maxsplit=1)[0].upper()] += 1

    def _noted(self, call: Callable[..., Any], note: Callable[[], None]) -> Callable[..., Any]:
        @wraps(call)
        def noted(*arguments: Any) -> Any:
            note()
            return call(*arguments)

        return noted

    def _group(self) -> None:
        self._groups += self._open

    def _event(self) -> None:
        """Count the first event of a turn of the loop."""
        if not self._delivering:
            self._delivering = True
            self._deliveries += self._open
            asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._delivering = False

    def _counted(self, decide: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(decide)
        def counted(*arguments: Any, **options: Any) -> Any:
            self._decisions += 1
            return decide(*arguments, **options)

        return counted


def main() -> int:
    """Run gatewayd under the counters."""
    result, *arguments = sys.argv[1:]
    Counters(Path(result)).install()
    from gatewayd.__main__ import run  # noqa: PLC0415  # what it imports is counted

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
