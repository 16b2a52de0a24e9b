"""The door to the keyring that holds the secrets: whether it is open, and the right one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gatewayd.errors import StoreError, StoreFull, StoreSealed
from gatewayd.secretstore.keyring_entries import Entries

T = TypeVar("T")

SERVICE = "gatewayd"
"""Under this service is the witness: an entry by which the keyring is known again."""


class Door:
    """Opens the keyring before it is used.

    witness: the name and the text of the entry by which the keyring is known.
    expects: whether the keyring must have that already, or may be a new one.
    tell: called with why the keyring cannot be used, and what to do; with "" when it can.
    is_open: whether it served when it was last asked.
    Every call raises what Entries raise, and StoreSealed where it is another keyring.
    """

    def __init__(
        self,
        entries: Entries,
        witness: str,
        expects: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        self._entries, self._witness = entries, witness
        self._expects, self._tell = expects, tell
        self.is_open = False

    def open(self) -> None:
        """Make sure that the keyring is there, if it was not."""
        if not self.is_open:
            self._guarded(self._recognise)
            self.is_open = True
            self._tell("")

    def recognise(self) -> None:
        """Make sure that it is still the keyring we know."""
        self._guarded(self._recognise)

    def read(self, service: str, entry: str) -> str | None:
        """Return an entry; None where there is none."""
        self.open()
        return self._guarded(lambda: self._entries.read(service, entry))

    def write(self, service: str, entry: str, text: str) -> None:
        """Write an entry, and read it back."""
        self.open()
        self._guarded(lambda: self._entries.write(service, entry, text))

    def remove(self, service: str, entry: str) -> None:
        """Delete an entry, if there is one."""
        self.open()
        self._guarded(lambda: self._entries.remove(service, entry))

    def _recognise(self) -> None:
        found = self._entries.read(SERVICE, self._witness)
        if found is None and not self._expects():
            self._entries.write(SERVICE, self._witness, self._witness)
        elif found != self._witness:
            raise StoreSealed(
                f"the keyring {self._entries.name} holds nothing of this gateway's: "
                "give it the keyring back that it had"
            )

    def _guarded(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except StoreFull:
            raise
        except StoreError as error:
            self.is_open = False
            self._tell(str(error))
            raise
