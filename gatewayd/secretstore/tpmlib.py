"""The door to tpm2-pytss: loaded when a TPM is asked for, and its errors told in our words."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

Library: TypeAlias = Any
"""The module tpm2_pytss, which has no types."""

Handle: TypeAlias = Any
"""An ESYS_TR: an object, a counter or a session in the TPM."""

DEVICE = "device:"

INTEGRITY, POLICY_FAIL, VALUE = 0x09F, 0x09D, 0x084
SIGNATURE, HANDLE, NV_DEFINED = 0x09B, 0x08B, 0x14C
_MEANING = {
    INTEGRITY: "the TPM refuses the sealed key: the TPM was cleared, or is another one",
    POLICY_FAIL: "the measured boot (PCR 7) is not what the sealed key allows",
    VALUE: "the measured boot (PCR 7) is not what the signed policy allows",
    SIGNATURE: "the signature does not fit the policy",
    HANDLE: "the TPM does not have the counter any more",
    0x902: "the TPM has no room for another object",
    0x921: "the TPM is locked out",
}
"""Response codes without handle, parameter and session (TPM 2.0 Library, part 2, TPM_RC)."""
_LAYER = 0xFF0000


class TpmError(Exception):
    """The TPM cannot do it; its text says why.  code: of the TPM; 0 where it did not answer."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


def library() -> Library:
    """Return the library.  Raises TpmError where it is not installed, or does not load."""
    try:
        with warnings.catch_warnings():
            # what it imports from cryptography is its own affair
            warnings.simplefilter("ignore")
            import tpm2_pytss  # noqa: PLC0415  # only who has a TPM pays for it
    except Exception as error:  # border: a library over three C libraries
        raise TpmError(
            f"tpm2-pytss cannot be loaded ({type(error).__name__}): install python3-tpm2-pytss"
        ) from error
    return tpm2_pytss


def look_for(tcti: str) -> None:
    """Raise TpmError where a device is named and is not there; libtss2 says IO failure only."""
    path = tcti.removeprefix(DEVICE)
    if path != tcti and not os.access(path, os.R_OK | os.W_OK):
        missing = "cannot be used by this user" if os.path.exists(path) else "does not exist"  # noqa: PTH110  # a device
        raise TpmError(f"the TPM {path} {missing}")


@contextmanager
def translated(lib: Library) -> Iterator[None]:
    """Turn what the library raises into TpmError."""
    try:
        yield
    except lib.TSS2_Exception as error:
        raise _translate(int(error.rc), int(error.error)) from error
    except (TypeError, ValueError) as error:  # bytes that are no TPM structure
        raise TpmError(f"what the vault keeps for the TPM is damaged ({error})") from error


def _translate(code: int, bare: int) -> TpmError:
    if code & _LAYER:  # not from the TPM: the way to it is broken
        return TpmError(f"the TPM does not answer (error {code:#x} of tpm2-tss)")
    return TpmError(_MEANING.get(bare, f"the TPM refuses (error {code:#x})"), bare)
