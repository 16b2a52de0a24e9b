"""A value that must not leak, and the name of the place where it is kept."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from gatewayd.device.identity import DeviceId


class Secret:
    """Bytes that show themselves to nobody who did not ask by name."""

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
