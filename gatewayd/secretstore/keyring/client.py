"""Access to one keyring: bounded calls, our errors, and a check that it is the right keyring."""

from __future__ import annotations

import errno
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from keyring.errors import KeyringLocked

from gatewayd.errors import StoreError, StoreFull, StoreSealed, StoreUnavailable
from gatewayd.runtime.private_files import sync_directory
from gatewayd.runtime.timeout_call import CallTimeout, TimeoutCall

T = TypeVar("T")

SERVICE = "gatewayd"
"""Under this service is the witness: an entry by which the keyring is recognised."""

MAX_CAUSE = 200
"""Characters shown of what a backend says."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class KeyringClient:
    """A client of one keyring backend, which reads and writes entries.

    make: makes the backend, when it is first needed; called again until it succeeds.
    name: of the backend, for messages.
    timeout: seconds that a call may take, after which the keyring is unavailable until that call
    returns; None where the caller bounds its calls itself.
    Every call raises StoreSealed where the keyring is locked, and StoreUnavailable where it
    cannot be used; their text says what to do.
    """

    def __init__(self, make: Callable[[], Any], name: str, timeout: float | None = None) -> None:
        self._make, self.name, self._timeout = make, name, timeout
        self._backend: Any = None
        self._pending: TimeoutCall[Any] | None = None

    def read(self, service: str, entry: str) -> str | None:
        """Return an entry, or None."""
        found = self._call(lambda: self._connected().get_password(service, entry))
        return None if found is None else str(found)

    def write(self, service: str, entry: str, text: str) -> None:
        """Write an entry, and read it back.  Raises StoreFull, too."""
        self._call(lambda: self._connected().set_password(service, entry, text))
        self._call(self._sync)
        found = self.read(service, entry)
        if found is None or not hmac.compare_digest(found.encode(), text.encode()):
            raise StoreUnavailable(
                f"the keyring {self.name} does not keep what is written to it: name another"
            )

    def remove(self, service: str, entry: str) -> None:
        """Delete an entry, if there is one, and make sure that it is gone."""
        if self.read(service, entry) is None:
            return
        self._call(lambda: self._connected().delete_password(service, entry))
        self._call(self._sync)
        if self.read(service, entry) is not None:
            raise StoreUnavailable(f"the keyring {self.name} does not delete: name another")

    def _connected(self) -> Any:  # noqa: ANN401  # keyring has no types
        if self._backend is None:
            backend = self._make()
            try:
                _ = backend.priority
            except RuntimeError as error:  # it cannot serve here, and says why
                raise _NotViable(ascii(str(error)[:MAX_CAUSE])[1:-1]) from None
            self._backend = backend
        return self._backend

    def _sync(self) -> None:
        """Bring the file of a backend that has one to the disk, and its name."""
        if isinstance(path := getattr(self._backend, "file_path", None), str | Path):
            with Path(path).open("rb") as file:
                os.fsync(file.fileno())
            sync_directory(Path(path).parent)

    def _call(self, act: Callable[[], T]) -> T:
        """Call the backend.  Its own error is dropped, with all that its frames hold."""
        try:
            return self._call_bounded(act)
        except CallTimeout:
            ours: StoreError = StoreUnavailable(
                f"the keyring {self.name} does not answer: check what keeps it busy"
            )
        except Exception as error:  # noqa: BLE001  # border: a keyring is foreign code
            ours = self._translated(error)
        raise ours

    def _call_bounded(self, act: Callable[[], T]) -> T:
        """Call the backend, one call at a time.  Raises CallTimeout, and what that raises."""
        if self._timeout is None:
            return act()
        if self._pending is not None and self._pending.running:
            raise CallTimeout
        self._pending, call = None, TimeoutCall(act)
        try:
            return call.result(self._timeout)
        except CallTimeout:
            self._pending = call
            raise

    def _translated(self, error: Exception) -> StoreError:
        """Show why a backend says that it cannot serve; of all else, no more than the type."""
        if isinstance(error, KeyringLocked):
            return StoreSealed(f"the keyring {self.name} is locked: unlock it")
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return StoreFull(f"the disk is full: the keyring {self.name} cannot grow")
        cause = str(error) if isinstance(error, _NotViable) else type(error).__name__
        return StoreUnavailable(f"the keyring {self.name} cannot be used ({cause}): bring it back")


class _NotViable(Exception):
    """What a backend says of why it cannot serve, bounded and printable."""


class VerifiedKeyring:
    """A keyring that is recognised before it is used, by an entry of ours: the witness.

    witness: the name and the text of that entry.
    expects: whether the keyring must have it already, or may be a new one.
    report: called with why the keyring cannot be used, and what to do; with "" when it can.
    is_open: whether the keyring served at the last call.
    Every call raises what KeyringClient raises, and StoreSealed where it is another keyring.
    """

    def __init__(
        self,
        client: KeyringClient,
        witness: str,
        expects: Callable[[], bool],
        report: Callable[[str], None],
    ) -> None:
        self._client, self._witness = client, witness
        self._expects, self._report = expects, report
        self.is_open = False

    def open(self) -> None:
        """Make sure that the keyring is the right one, unless it is open."""
        if not self.is_open:
            self.recognise()
            self.is_open = True
            self._report("")

    def recognise(self) -> None:
        """Make sure that it is still the keyring of this gateway."""
        self._reporting(self._recognise)

    def read(self, service: str, entry: str) -> str | None:
        """Return an entry, or None."""
        self.open()
        return self._reporting(lambda: self._client.read(service, entry))

    def write(self, service: str, entry: str, text: str) -> None:
        """Write an entry, and read it back."""
        self.open()
        self._reporting(lambda: self._client.write(service, entry, text))

    def remove(self, service: str, entry: str) -> None:
        """Delete an entry, if there is one."""
        self.open()
        self._reporting(lambda: self._client.remove(service, entry))

    def _recognise(self) -> None:
        found = self._client.read(SERVICE, self._witness)
        if found is None and not self._expects():
            self._client.write(SERVICE, self._witness, self._witness)
        elif found != self._witness:
            raise StoreSealed(
                f"the keyring {self._client.name} is not the one that this gateway has used: "
                "put that one back"
            )

    def _reporting(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except StoreFull:
            raise
        except StoreError as error:
            self.is_open = False
            self._report(str(error))
            raise
