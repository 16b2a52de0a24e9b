"""The key slot that the TPM guards: a key sealed in it, and a counter beside it."""

from __future__ import annotations

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass

from gatewayd.secretstore import tpmcounter, tpmpolicy
from gatewayd.secretstore.envelope import KEY, derive
from gatewayd.secretstore.keyslots import NoKey, Offer
from gatewayd.secretstore.tpm import Tpm, opened
from gatewayd.secretstore.tpmcounter import TpmCounter
from gatewayd.secretstore.tpmlib import TpmError
from gatewayd.secretstore.tpmpolicy import SignedPolicy

log = logging.getLogger(__name__)

_DAMAGED = "what the vault keeps for the TPM is damaged"
_REMEDY = "see that it answers, or open the vault with its recovery key and reseal it"


@dataclass(frozen=True, slots=True)
class _Sealed:
    """What the vault keeps of a key in the TPM.

    parent: name of the primary key.  owner: who signs policies; empty where there is no policy.
    counter: its index; 0 for none.
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
    def unpack(cls, material: bytes) -> _Sealed:
        """Read it again.  Raises TpmError."""
        try:
            texts = json.loads(material)
            parent, public, private, owner = (
                b64decode(texts[name]) for name in ("parent", "public", "private", "owner")
            )
            counter = int(texts["counter"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise TpmError(_DAMAGED) from None
        if counter and not tpmcounter.is_ours(counter):
            raise TpmError(_DAMAGED)
        return cls(parent, public, private, owner, counter)


class TpmSlot:
    """A key that one TPM alone gives back.  Implements KeySlot, and has a counter.

    tcti: as tpm2-tss writes it.  policy: under which boots; None for any.
    with_counter: whether a new key gets a counter against old copies of the vault.
    """

    kind = "tpm2"

    def __init__(
        self, tcti: str, policy: SignedPolicy | None = None, *, with_counter: bool = True
    ) -> None:
        self._tcti, self._policy, self._with_counter = tcti, policy, with_counter

    def read(self, material: bytes) -> bytes:
        """Return the key.  Raises NoKey."""
        try:
            sealed = _Sealed.unpack(material)
            with opened(self._tcti) as tpm:
                tpm.check(sealed.parent)
                session = self._session(tpm, sealed.owner) if sealed.owner else None
                return tpm.unseal(sealed.public, sealed.private, session)
        except TpmError as error:
            raise NoKey(f"{error}: {_REMEDY}") from error

    def provide(self, random: Callable[[int], bytes]) -> Offer:
        """Make a key and seal it.  Raises NoKey."""
        secret = random(KEY)
        try:
            with opened(self._tcti) as tpm:
                owner, digest = self._policy.seal(tpm) if self._policy else (b"", b"")
                public, private = tpm.seal(secret, digest)
                index = tpmcounter.define(tpm, _auth(secret), random) if self._with_counter else 0
                return Offer(secret, _Sealed(tpm.name, public, private, owner, index).pack())
        except TpmError as error:
            raise NoKey(f"{error}: {_REMEDY}") from error

    def discard(self, material: bytes) -> None:
        """Remove the counter of a key that is given up; what cannot be removed stays."""
        try:
            index = _Sealed.unpack(material).counter
            if index:
                with opened(self._tcti) as tpm:
                    tpmcounter.remove(tpm, index)
        except TpmError as error:
            log.warning("A counter stays behind in the TPM: %s.", error)

    def counter(self, material: bytes, secret: bytes) -> TpmCounter | None:
        """Return the counter beside a key; None if it was made without."""
        index = _Sealed.unpack(material).counter
        return TpmCounter(self._tcti, index, _auth(secret)) if index else None

    def boot_policy(self) -> bytes:
        """Return the digest that an owner signs to let the boot of now unseal.  Raises TpmError."""
        with opened(self._tcti) as tpm:
            return tpmpolicy.current(tpm)

    def _session(self, tpm: Tpm, owner: bytes) -> object:
        if self._policy is None:
            raise TpmError("the key is sealed under a signed policy: name its files in tpm2_policy")
        return self._policy.session(tpm, owner)


def _auth(secret: bytes) -> bytes:
    return derive(secret, b"gatewayd-tpm-counter")
