"""A counter in the TPM, which cannot be set back: by it an old copy of the vault shows itself."""

from __future__ import annotations

from collections.abc import Callable

from gatewayd.secretstore.tpm.esapi import (
    NV_DEFINED,
    Handle,
    Tpm,
    TpmError,
    open_tpm,
    translate_errors,
)

FIRST, RANGE = 0x0180_0000, 0x0040_0000
"""Indices that the TCG leaves to the owner (Registry of Reserved TPM 2.0 Handles, 2.2)."""

TRIES = 8
_SIZE = 8


def define(tpm: Tpm, auth: bytes, random: Callable[[int], bytes]) -> int:
    """Make a counter that only those who know `auth` can read and increment; return its index.

    Raises TpmError.
    """
    for left in reversed(range(TRIES)):
        index = FIRST + int.from_bytes(random(4), "big") % RANGE
        try:
            with translate_errors(tpm.lib):
                tpm.esys.nv_define_space(
                    auth=auth,
                    public_info=_template(tpm, index),
                    auth_handle=tpm.lib.ESYS_TR.OWNER,
                    session1=tpm.session,
                )
            increment(tpm, index, auth)
        except TpmError as error:
            if error.code != NV_DEFINED or not left:
                raise
        else:
            return index
    raise AssertionError("the last try returns or raises")


def is_ours(index: int) -> bool:
    """Return whether a counter of ours can have this index: others are never touched."""
    return FIRST <= index < FIRST + RANGE


def increment(tpm: Tpm, index: int, auth: bytes) -> None:
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


def undefine(tpm: Tpm, index: int) -> None:
    """Remove a counter."""
    nv = tpm.esys.tr_from_tpmpublic(handle=index)
    owner = tpm.lib.ESYS_TR.OWNER
    tpm.esys.nv_undefine_space(nv_index=nv, auth_handle=owner, session1=tpm.session)


class TpmCounter:
    """One counter, opened for each call.  Implements MonotonicCounter (vault/rollback.py).

    tcti: as tpm2-tss writes it.  auth: authorizes its use.
    """

    def __init__(self, tcti: str, index: int, auth: bytes) -> None:
        self._tcti, self._index, self._auth = tcti, index, auth

    def read(self) -> int:
        """Return the value.  Raises TpmError."""
        with open_tpm(self._tcti) as tpm:
            return read(tpm, self._index, self._auth)

    def increment(self) -> None:
        """Add one.  Raises TpmError."""
        with open_tpm(self._tcti) as tpm:
            increment(tpm, self._index, self._auth)


def _template(tpm: Tpm, index: int) -> Handle:
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
