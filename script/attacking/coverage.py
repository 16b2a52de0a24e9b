"""Which lines of gatewayd an input reaches, and from which: what guides the fuzzer.

Of one process and thread, by sys.settrace: sys.monitoring, which costs less, is in no Python that
gatewayd runs on yet.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

import gatewayd

PRODUCT = str(Path(gatewayd.__file__).parent)

Edge: TypeAlias = tuple[CodeType, int, int, int]
"""A function, a line of it, the line that was executed before it, and how often: so that a
loop that goes on longer counts as something new, and not each of its rounds."""

_EACH = 4
"""Counts below this one are distinguished."""


def edges_of(call: Callable[[], object]) -> tuple[set[Edge], Exception | None]:
    """Call something; return what it reached, and what it raised."""
    counted: dict[tuple[CodeType, int, int], int] = {}

    def enter(frame: FrameType, _event: str, _arg: object) -> Any:  # noqa: ANN401  # of sys.settrace
        code = frame.f_code
        if not code.co_filename.startswith(PRODUCT):
            return None
        before = 0

        def line(frame: FrameType, event: str, _arg: object) -> Any:  # noqa: ANN401  # of sys.settrace
            nonlocal before
            if event == "line":
                step = (code, before, frame.f_lineno)
                counted[step] = counted.get(step, 0) + 1
                before = frame.f_lineno
            return line

        return line

    outer, raised = sys.gettrace(), None
    sys.settrace(enter)
    try:
        call()
    except Exception as error:  # noqa: BLE001  # border: what a parser raises is judged later
        raised = error
    finally:
        sys.settrace(outer)
    return {(*step, _class_of(count)) for step, count in counted.items()}, raised


def _class_of(count: int) -> int:
    """Return 1, 2, 3, and one number for each doubling after that."""
    return count if count < _EACH else _EACH + count.bit_length()
