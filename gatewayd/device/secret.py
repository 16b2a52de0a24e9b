"""A value that must not leak, and the name of the place where it is kept."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from gatewayd.device.identity import DeviceId
    from gatewayd.device.reason import Reason


class Secret:
    """Bytes that only `reveal` returns: never shown, hashed or pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Return the bytes.  Grep for callers: each is a place where a secret could leak."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret is a fact about the secret

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled")


@dataclass(frozen=True, slots=True, order=True)
class SecretRef:
    """The slot of one secret.  A new attempt is a new slot, never an overwrite."""

    provider: str
    device: DeviceId
    attempt: int
    kind: str = "device-secret"


class SecretSlots(Protocol):
    """The slots of the secret store, for the event loop.  They raise StoreError."""

    async def put(self, ref: SecretRef, secret: Secret) -> None:
        """Return when the secret is durable and was read back."""

    async def get(self, ref: SecretRef) -> Secret:
        """Read a slot from the disk.  Raises SecretNotFound, SecretCorrupt, StoreSealed."""

    async def delete(self, ref: SecretRef) -> None:
        """Return when a slot is empty; one that is empty stays so."""

    async def refs(self, device: DeviceId) -> Sequence[SecretRef]:
        """Return all slots of a device that hold something."""

    async def holds(self, ref: SecretRef) -> bool:
        """Whether a slot can be read."""

    async def check_ready(self) -> Reason | None:
        """Return why no secret could be stored now; None if one could."""
