"""The key slot of an OS keyring: one master key lies there, and the secrets do not."""

from __future__ import annotations

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import TypeVar

from gatewayd.errors import PluginError, StoreError
from gatewayd.secretstore.keyring.backends import Entries
from gatewayd.secretstore.keyslots.base import NoKey, Offer
from gatewayd.secretstore.vault.crypto import KEY

log = logging.getLogger(__name__)

T = TypeVar("T")

SERVICE = "gatewayd-vault"
"""The service of the entry; its user name is random, so that no vault meets another's key."""


class KeyringSlot:
    """A master key in a named keyring backend.  Implements KeySlot.

    entries: of the backend; raises PluginError where there is no such backend.
    """

    kind = "keyring"

    def __init__(self, entries: Callable[[], Entries]) -> None:
        self._entries = entries

    def read(self, material: bytes) -> bytes:
        """Return the key.  Raises NoKey."""
        value = self._do(lambda entries: entries.read(SERVICE, _username(material)))
        if value is None:
            raise NoKey(
                "the keyring has no key for this vault: put that keyring back, or open the vault "
                "with its recovery key and reseal it"
            )
        try:
            key = b64decode(value, validate=True)
        except ValueError:
            key = b""
        if len(key) != KEY:
            raise NoKey("what the keyring keeps is no key of a vault: put that keyring back")
        return key

    def provide(self, random: Callable[[int], bytes]) -> Offer:
        """Make a key and put it into the keyring.  Raises NoKey."""
        secret, username = random(KEY), random(8).hex()
        text = b64encode(secret).decode()
        self._do(lambda entries: entries.write(SERVICE, username, text))
        return Offer(secret, json.dumps({"username": username}).encode())

    def discard(self, material: bytes) -> None:
        """Delete the entry; what cannot be deleted stays."""
        try:
            self._do(lambda entries: entries.remove(SERVICE, _username(material)))
        except NoKey as error:
            log.warning("A key that is not used any more stays behind: %s.", error)

    def _do(self, act: Callable[[Entries], T]) -> T:
        try:
            return act(self._entries())
        except (PluginError, StoreError) as error:
            raise NoKey(str(error)) from error


def _username(material: bytes) -> str:
    try:
        return str(json.loads(material)["username"])
    except (ValueError, TypeError, KeyError):
        raise NoKey("vault.db is damaged where it names the key in the keyring") from None
