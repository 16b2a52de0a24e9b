"""A call that may hang, as one to a TPM or to a keyring, made without making the caller hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class CallTimeout(Exception):
    """There is no answer yet."""


class TimeoutCall(Generic[T]):
    """A call on a thread of its own, which does not keep the process from ending."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._values: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="key-slot", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> bool:
        """Whether there is no answer yet."""
        return self._thread.is_alive()

    def result(self, timeout: float) -> T:
        """Return what the call has returned, or raise what it has raised.

        timeout: seconds to wait for it.  Raises CallTimeout; then ask again later.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise CallTimeout
        if self._error is not None:
            raise self._error
        return self._values[0]

    def _run(self) -> None:
        try:
            self._values.append(self._call())
        except Exception as error:  # noqa: BLE001  # border: it is raised where it is waited for
            self._error = error


def call_with_timeout(call: Callable[[], T], timeout: float) -> T:
    """Make one call that may hang.

    timeout: seconds to wait for it.  Raises CallTimeout, after which it may still be done.
    """
    return TimeoutCall(call).result(timeout)
