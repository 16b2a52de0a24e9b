"""Whether the clock can be trusted: the kernel says so, or systemd-timesyncd does."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from gatewayd.runtime.clock import synchronised


class Libc:
    """A libc whose adjtimex(2) answers so."""

    def __init__(self, answer: int) -> None:
        self._answer = answer

    def adjtimex(self, timex: ctypes.Array[ctypes.c_char]) -> int:
        assert timex.raw[:4] == bytes(4)  # modes: nothing is to be changed
        return self._answer


@pytest.mark.parametrize(
    ("answer", "marked", "told"),
    [(0, False, True), (1, False, True), (5, True, False), (-1, True, True), (-1, False, None)],
)
def test_the_kernel_is_believed_before_the_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int, marked: bool, told: bool | None
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc(answer))
    if marked:
        (tmp_path / "synchronized").touch()
    assert synchronised(tmp_path / "synchronized") is told


def test_the_kernel_of_here_has_an_answer(tmp_path: Path) -> None:
    assert synchronised(tmp_path / "none") in (True, False)
