"""The key slot of a TPM: a key that the TPM seals, and beside it a counter in the TPM."""

from __future__ import annotations

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass

from gatewayd.secretstore.keyslots.slots import EnrolledKey, KeyUnavailable
from gatewayd.secretstore.tpm import nv_counter
from gatewayd.secretstore.tpm.esapi import DAMAGED, Tpm, TpmError, open_tpm
from gatewayd.secretstore.tpm.nv_counter import TpmCounter
from gatewayd.secretstore.tpm.policy import SignedPolicy, current_policy
from gatewayd.secretstore.vault.crypto import KEY_SIZE, derive

log = logging.getLogger(__name__)

_REMEDY = "check that it answers, or open the vault with its recovery key and reseal it"


@dataclass(frozen=True, slots=True)
class _SealedKey:
    """What the vault keeps of a key in the TPM.

    parent: name of the primary key.  owner: the public key that signs policies; empty where there
    is no policy.  counter: its index; 0 for none.
    """

    parent: bytes
    public: bytes
    private: bytes
    owner: bytes
    counter: int

    def pack(self) -> bytes:
        """Return it as bytes."""
        texts = {
            name: b64encode(value).decode() if isinstance(value, bytes) else value
            for name, value in asdict(self).items()
        }
        return json.dumps(texts).encode()

    @classmethod
    def unpack(cls, material: bytes) -> _SealedKey:
        """Return what `pack` has written.  Raises TpmError."""
        try:
            texts = json.loads(material)
            parent, public, private, owner = (
                b64decode(texts[name]) for name in ("parent", "public", "private", "owner")
            )
            counter = int(texts["counter"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise TpmError(DAMAGED) from None
        if counter and not nv_counter.is_ours(counter):
            raise TpmError(DAMAGED)
        return cls(parent, public, private, owner, counter)


class TpmSlot:
    """A key that only one TPM gives back, with a counter beside it.  Implements KeySlot.

    tcti: as tpm2-tss writes it.  policy: under which boots; None for any.
    with_counter: whether a new key gets a counter against old copies of the vault.
    """

    kind = "tpm2"

    def __init__(
        self, tcti: str, policy: SignedPolicy | None = None, *, with_counter: bool = True
    ) -> None:
        self._tcti, self._policy, self._with_counter = tcti, policy, with_counter

    def unseal(self, material: bytes) -> bytes:
        """Return the key.  Raises KeyUnavailable."""
        try:
            sealed = _SealedKey.unpack(material)
            with open_tpm(self._tcti) as tpm:
                tpm.check(sealed.parent)
                session = self._session(tpm, sealed.owner) if sealed.owner else None
                return tpm.unseal(sealed.public, sealed.private, session)
        except TpmError as error:
            raise KeyUnavailable(f"{error}: {_REMEDY}") from error

    def enroll(self, random: Callable[[int], bytes]) -> EnrolledKey:
        """Make a key and seal it.  Raises KeyUnavailable."""
        secret = random(KEY_SIZE)
        try:
            with open_tpm(self._tcti) as tpm:
                owner, digest = self._policy.seal(tpm) if self._policy else (b"", b"")
                public, private = tpm.seal(secret, digest)
                index = nv_counter.define(tpm, _auth(secret), random) if self._with_counter else 0
                sealed = _SealedKey(tpm.name, public, private, owner, index)
                return EnrolledKey(secret, sealed.pack())
        except TpmError as error:
            raise KeyUnavailable(f"{error}: {_REMEDY}") from error

    def discard(self, material: bytes) -> None:
        """Remove the counter of a key that is not used any more; on failure it stays."""
        try:
            index = _SealedKey.unpack(material).counter
            if index:
                with open_tpm(self._tcti) as tpm:
                    nv_counter.undefine(tpm, index)
        except TpmError as error:
            log.warning("An unused counter cannot be removed from the TPM: %s.", error)

    def counter(self, material: bytes, secret: bytes) -> TpmCounter | None:
        """Return the counter beside a key; None if it was made without."""
        index = _SealedKey.unpack(material).counter
        return TpmCounter(self._tcti, index, _auth(secret)) if index else None

    def boot_policy(self) -> bytes:
        """Return the digest that an owner signs to let the present boot unseal.

        Raises TpmError.
        """
        with open_tpm(self._tcti) as tpm:
            return current_policy(tpm)

    def _session(self, tpm: Tpm, owner: bytes) -> object:
        if self._policy is None:
            raise TpmError("the key is sealed under a signed policy: name its files in tpm2_policy")
        return self._policy.session(tpm, owner)


def _auth(secret: bytes) -> bytes:
    return derive(secret, b"gatewayd-tpm-counter")
