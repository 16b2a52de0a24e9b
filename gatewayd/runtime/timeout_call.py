"""A blocking call with a timeout, for a TPM or a keyring that may not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class CallTimeout(Exception):
    """The call has not returned within its timeout."""


class TimeoutCall(Generic[T]):
    """A call on a thread of its own, which does not keep the process from ending."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._values: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="timeout-call", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the call has not returned yet."""
        return self._thread.is_alive()

    def result(self, timeout: float) -> T:
        """Return what the call returned, or raise what it raised.

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
    """Make a call, and return what it returns within `timeout` seconds.

    Raises CallTimeout; the call may still complete after that.
    """
    return TimeoutCall(call).result(timeout)
