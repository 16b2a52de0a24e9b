"""The entries of one keyring: whatever that raises becomes one of our errors."""

from __future__ import annotations

import errno
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from keyring.errors import KeyringLocked

from gatewayd.errors import StoreError, StoreFull, StoreSealed, StoreUnavailable
from gatewayd.secretstore.attempt import Attempt, Hangs
from gatewayd.secretstore.database import sync_directory

T = TypeVar("T")

MAX_TOLD = 200
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Entries:
    """Reads and writes entries of a keyring.

    make: makes the backend, when it is first needed; called again until it succeeds.
    name: of the backend, to be told.
    patience: seconds that a call may take, after which it is unavailable until that call returns;
    None where the caller sees to that.
    Every call raises StoreSealed where the keyring is locked, and StoreUnavailable where it
    cannot be used; their text says what to do.
    """

    def __init__(self, make: Callable[[], Any], name: str, patience: float | None = None) -> None:
        self._make, self.name, self._patience = make, name, patience
        self._made: Any = None
        self._hanging: Attempt[Any] | None = None

    def read(self, service: str, entry: str) -> str | None:
        """Return an entry; None where there is none."""
        found = self._asked(lambda: self._backend().get_password(service, entry))
        return None if found is None else str(found)

    def write(self, service: str, entry: str, text: str) -> None:
        """Write an entry, and read it back.  Raises StoreFull, too."""
        self._asked(lambda: self._backend().set_password(service, entry, text))
        self._asked(self._sync)
        found = self.read(service, entry)
        if found is None or not hmac.compare_digest(found.encode(), text.encode()):
            raise StoreUnavailable(f"the keyring {self.name} does not keep what it is given")

    def remove(self, service: str, entry: str) -> None:
        """Delete an entry, if there is one, and make sure that it is gone."""
        if self.read(service, entry) is None:
            return
        self._asked(lambda: self._backend().delete_password(service, entry))
        self._asked(self._sync)
        if self.read(service, entry) is not None:
            raise StoreUnavailable(f"the keyring {self.name} does not delete")

    def _backend(self) -> Any:  # noqa: ANN401  # keyring has no types
        if self._made is None:
            backend = self._make()
            try:
                _ = backend.priority
            except RuntimeError as error:  # it cannot serve here, and says why
                raise _NotViable(ascii(str(error)[:MAX_TOLD])[1:-1]) from None
            self._made = backend
        return self._made

    def _sync(self) -> None:
        """Bring the file of a backend that has one to the disk, and its name."""
        if isinstance(path := getattr(self._made, "file_path", None), str | Path):
            with Path(path).open("rb") as file:
                os.fsync(file.fileno())
            sync_directory(Path(path).parent)

    def _asked(self, act: Callable[[], T]) -> T:
        """Call the backend.  Its own error is dropped, with all that its frames hold."""
        try:
            return self._answered(act)
        except Hangs:
            ours: StoreError = StoreUnavailable(
                f"the keyring {self.name} does not answer: see what keeps it busy"
            )
        except Exception as error:  # noqa: BLE001  # border: a keyring is somebody else's code
            ours = self._translated(error)
        raise ours

    def _answered(self, act: Callable[[], T]) -> T:
        """Call the backend, one call at a time.  Raises Hangs, and what that raises."""
        if self._patience is None:
            return act()
        if self._hanging is not None and self._hanging.goes_on:
            raise Hangs
        self._hanging, attempt = None, Attempt(act)
        try:
            return attempt.result(self._patience)
        except Hangs:
            self._hanging = attempt
            raise

    def _translated(self, error: Exception) -> StoreError:
        """Tell what a backend says of why it cannot serve; of all else, no more than the type."""
        if isinstance(error, KeyringLocked):
            return StoreSealed(f"the keyring {self.name} is locked: unlock it")
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return StoreFull(f"the disk is full: the keyring {self.name} cannot grow")
        cause = str(error) if isinstance(error, _NotViable) else type(error).__name__
        return StoreUnavailable(f"the keyring {self.name} cannot be used ({cause}): bring it back")


class _NotViable(Exception):
    """What a backend says of why it cannot serve, bounded and printable."""
