"""The key slot that the TPM guards: a key sealed in it, and a counter beside it.

A counter in the TPM, which nobody can set back: an old copy of the vault shows itself.
"""

from __future__ import annotations

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass

from gatewayd.secretstore.keyslots.base import NoKey, Offer
from gatewayd.secretstore.tpm import policy as tpmpolicy
from gatewayd.secretstore.tpm.esapi import NV_DEFINED, Handle, Tpm, TpmError, opened, translated
from gatewayd.secretstore.tpm.policy import SignedPolicy
from gatewayd.secretstore.vault.crypto import KEY, derive

FIRST, RANGE = 0x0180_0000, 0x0040_0000
"""Indices that the TCG leaves to the owner (Registry of Reserved TPM 2.0 Handles, 2.2)."""

TRIES = 8
_SIZE = 8


def define(tpm: Tpm, auth: bytes, random: Callable[[int], bytes]) -> int:
    """Make a counter that only who knows `auth` reads and steps; return its index.

    Raises TpmError.
    """
    for left in reversed(range(TRIES)):
        index = FIRST + int.from_bytes(random(4), "big") % RANGE
        try:
            with translated(tpm.lib):
                tpm.esys.nv_define_space(
                    auth=auth,
                    public_info=_counter(tpm, index),
                    auth_handle=tpm.lib.ESYS_TR.OWNER,
                    session1=tpm.session,
                )
            step(tpm, index, auth)
        except TpmError as error:
            if error.code != NV_DEFINED or not left:
                raise
        else:
            return index
    raise AssertionError("the last try returns or raises")


def is_ours(index: int) -> bool:
    """Tell whether a counter of ours can have this index: others are never touched."""
    return FIRST <= index < FIRST + RANGE


def step(tpm: Tpm, index: int, auth: bytes) -> None:
    """Add one."""
    nv = _handle(tpm, index, auth)
    tpm.esys.nv_increment(nv_index=nv, auth_handle=nv, session1=tpm.session)


def read(tpm: Tpm, index: int, auth: bytes) -> int:
    """Return the value."""
    nv = _handle(tpm, index, auth)
    value = tpm.esys.nv_read(
        nv_index=nv, size=_SIZE, offset=0, auth_handle=nv, session1=tpm.session
    )
    return int.from_bytes(bytes(value), "big")


def remove(tpm: Tpm, index: int) -> None:
    """Remove a counter."""
    nv = tpm.esys.tr_from_tpmpublic(handle=index)
    owner = tpm.lib.ESYS_TR.OWNER
    tpm.esys.nv_undefine_space(nv_index=nv, auth_handle=owner, session1=tpm.session)


class TpmCounter:
    """Implements Counter (rollback.py) by a counter in the TPM.  auth: what its use takes."""

    def __init__(self, tcti: str, index: int, auth: bytes) -> None:
        self._tcti, self._index, self._auth = tcti, index, auth

    def read(self) -> int:
        """Return the value.  Raises TpmError."""
        with opened(self._tcti) as tpm:
            return read(tpm, self._index, self._auth)

    def step(self) -> None:
        """Add one.  Raises TpmError."""
        with opened(self._tcti) as tpm:
            step(tpm, self._index, self._auth)


def _counter(tpm: Tpm, index: int) -> Handle:
    lib = tpm.lib
    attributes = lib.TPMA_NV.AUTHREAD | lib.TPMA_NV.AUTHWRITE | lib.TPMA_NV.NO_DA
    attributes |= lib.TPM2_NT.COUNTER << lib.TPMA_NV.TPM2_NT_SHIFT
    public = lib.TPMS_NV_PUBLIC(
        nvIndex=index, nameAlg=lib.TPM2_ALG.SHA256, attributes=attributes, dataSize=_SIZE
    )
    return lib.TPM2B_NV_PUBLIC(nvPublic=public)


def _handle(tpm: Tpm, index: int, auth: bytes) -> Handle:
    nv = tpm.esys.tr_from_tpmpublic(handle=index)
    tpm.esys.tr_set_auth(esys_handle=nv, auth_value=auth)
    return nv


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
        if counter and not is_ours(counter):
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
                index = define(tpm, _auth(secret), random) if self._with_counter else 0
                return Offer(secret, _Sealed(tpm.name, public, private, owner, index).pack())
        except TpmError as error:
            raise NoKey(f"{error}: {_REMEDY}") from error

    def discard(self, material: bytes) -> None:
        """Remove the counter of a key that is given up; what cannot be removed stays."""
        try:
            index = _Sealed.unpack(material).counter
            if index:
                with opened(self._tcti) as tpm:
                    remove(tpm, index)
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
