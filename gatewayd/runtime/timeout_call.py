"""A call that may hang, as one to a TPM or to a keyring, kept from hanging who makes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Hangs(Exception):
    """There is no answer yet."""


class Attempt(Generic[T]):
    """One call, on a thread of its own, which does not keep the process from ending."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._values: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="key-slot", daemon=True)
        self._thread.start()

    @property
    def goes_on(self) -> bool:
        """Whether there is no answer yet."""
        return self._thread.is_alive()

    def result(self, patience: float) -> T:
        """Return what the call has returned, or raise what it has raised.

        patience: seconds to wait for it.  Raises Hangs; then ask again later.
        """
        self._thread.join(patience)
        if self._thread.is_alive():
            raise Hangs
        if self._error is not None:
            raise self._error
        return self._values[0]

    def _run(self) -> None:
        try:
            self._values.append(self._call())
        except Exception as error:  # noqa: BLE001  # border: it is raised where it is waited for
            self._error = error


def bounded(call: Callable[[], T], patience: float) -> T:
    """Make one call that may hang.  Raises Hangs, after which it may still be done."""
    return Attempt(call).result(patience)
