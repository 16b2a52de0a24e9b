"""A counter in the TPM, which nobody can set back: an old copy of the vault shows itself."""

from __future__ import annotations

from collections.abc import Callable

from gatewayd.secretstore.tpm import Tpm, opened
from gatewayd.secretstore.tpmlib import NV_DEFINED, Handle, TpmError, translated

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
