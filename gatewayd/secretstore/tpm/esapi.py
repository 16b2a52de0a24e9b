"""The TPM, in process: what it seals, it alone unseals.

By ESAPI of tpm2-pytss, which is loaded when a TPM is first used, with keyword arguments: releases
1.2 to 2.x share them.  Its errors become ours.  What crosses the bus of the TPM is encrypted, in
sessions salted with the primary key (TPM 2.0 Library, part 1, "Session-based encryption").
Objects have no authorization value and the attribute noDA, so that no number of failures can lock
the TPM.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from gatewayd.settings import grammar

Library: TypeAlias = Any
"""The module tpm2_pytss, which has no types."""

Handle: TypeAlias = Any
"""An ESYS_TR: an object, a counter or a session in the TPM."""

DEVICE = "device:"
DAMAGED = "what the vault keeps for the TPM is damaged"
OTHER_TPM = "this is not the TPM that has sealed the key, or it was cleared"

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
    """The TPM refuses or fails; the text says why.  code: of the TPM; 0 where it did not answer."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


def library() -> Library:
    """Return the library.  Raises TpmError where it is not installed, or does not load."""
    try:
        with warnings.catch_warnings():
            # about what it imports from cryptography
            warnings.simplefilter("ignore")
            import tpm2_pytss  # noqa: PLC0415  # only a gateway with a TPM loads it
    except Exception as error:  # border: a library over three C libraries
        raise TpmError(
            f"tpm2-pytss cannot be loaded ({type(error).__name__}): install python3-tpm2-pytss"
        ) from error
    return tpm2_pytss


def check_device(tcti: str) -> None:
    """Raise TpmError where no TPM of this machine is named, or a device that is missing.

    libtss2 would run a program that a TCTI names, and say of a device "IO failure" only.
    """
    if rule := grammar.tcti(tcti):
        raise TpmError(f"the TCTI {rule}")
    path = tcti.removeprefix(DEVICE)
    if path != tcti and not os.access(path, os.R_OK | os.W_OK):
        missing = "cannot be used by this user" if os.path.exists(path) else "does not exist"  # noqa: PTH110  # a device
        raise TpmError(f"the TPM {path} {missing}")


@contextmanager
def translate_errors(lib: Library) -> Iterator[None]:
    """Turn what the library raises into TpmError."""
    try:
        yield
    except lib.TSS2_Exception as error:
        raise _translate(int(error.rc), int(error.error)) from error
    except (TypeError, ValueError) as error:  # bytes that are no TPM structure
        raise TpmError(f"{DAMAGED} ({error})") from error


def _translate(code: int, bare: int) -> TpmError:
    if code & _LAYER:  # from a layer below, not from the TPM
        return TpmError(f"the TPM does not answer (error {code:#x} of tpm2-tss)")
    return TpmError(_MEANING.get(bare, f"the TPM refuses (error {code:#x})"), bare)


@contextmanager
def open_tpm(tcti: str) -> Iterator[Tpm]:
    """Open a TPM; afterwards nothing of ours is left in it.

    tcti: as tpm2-tss writes it: device:/dev/tpmrm0, swtpm:path=….  Raises TpmError.
    """
    check_device(tcti)
    lib = library()
    with translate_errors(lib), lib.ESAPI(tcti=tcti) as esys:
        tpm = Tpm(lib, esys)
        try:
            tpm.start()
            yield tpm
        finally:
            tpm.flush()


class Tpm:
    """An open TPM.

    lib: the library.  esys: its context.  session: encrypts what crosses the bus.
    primary: the storage key of the owner.  name: of that key, which identifies the TPM.
    """

    primary: Handle
    session: Handle
    name: bytes

    def __init__(self, lib: Library, esys: Handle) -> None:
        self.lib, self.esys = lib, esys
        self._loaded: list[Handle] = []

    def start(self) -> None:
        """Make the primary key, the same each time until the TPM is cleared, and a session."""
        self.primary, *_ = self.esys.create_primary(
            in_sensitive=self.lib.TPM2B_SENSITIVE_CREATE(),
            in_public=self.lib.TPM2B_PUBLIC(publicArea=_storage_key(self.lib)),
            primary_handle=self.lib.ESYS_TR.OWNER,
        )
        self._loaded.append(self.primary)
        self.name = bytes(self.esys.tr_get_name(self.primary))
        self.session = self.begin(self.lib.TPM2_SE.HMAC)

    def begin(self, kind: Handle) -> Handle:
        """Start a session.  kind: a TPM2_SE."""
        lib = self.lib
        session = self.esys.start_auth_session(
            tpm_key=self.primary,
            bind=lib.ESYS_TR.NONE,
            session_type=kind,
            symmetric=lib.TPMT_SYM_DEF(
                algorithm=lib.TPM2_ALG.AES,
                keyBits=lib.TPMU_SYM_KEY_BITS(aes=128),
                mode=lib.TPMU_SYM_MODE(aes=lib.TPM2_ALG.CFB),
            ),
            auth_hash=lib.TPM2_ALG.SHA256,
        )
        self._loaded.append(session)
        flags = lib.TPMA_SESSION
        attributes = flags.CONTINUESESSION | flags.DECRYPT | flags.ENCRYPT
        self.esys.trsess_set_attributes(session, attributes)
        return session

    def seal(self, secret: bytes, policy: bytes = b"") -> tuple[bytes, bytes]:
        """Return the public and the private half of a sealed object.

        policy: the digest of the policy by which it is unsealed; empty for none.
        """
        data = self.lib.TPMS_SENSITIVE_CREATE(data=self.lib.TPM2B_SENSITIVE_DATA(secret))
        private, public, *_ = self.esys.create(
            parent_handle=self.primary,
            in_sensitive=self.lib.TPM2B_SENSITIVE_CREATE(sensitive=data),
            in_public=self.lib.TPM2B_PUBLIC(publicArea=_sealed(self.lib, policy)),
            session1=self.session,
        )
        return public.marshal(), private.marshal()

    def unseal(self, public: bytes, private: bytes, session: Handle = None) -> bytes:
        """Return what was sealed.  session: of its policy; None where it has none."""
        loaded = self.esys.load(
            parent_handle=self.primary,
            in_private=self.lib.TPM2B_PRIVATE.unmarshal(private)[0],
            in_public=self.lib.TPM2B_PUBLIC.unmarshal(public)[0],
            session1=self.session,
        )
        with self.flushing(loaded):
            own = self.session if session is None else session
            return bytes(self.esys.unseal(item_handle=loaded, session1=own))

    def check(self, name: bytes) -> None:
        """Make sure that this is the TPM whose primary key had this name.  Raises TpmError."""
        if name != self.name:
            raise TpmError(OTHER_TPM)

    @contextmanager
    def flushing(self, handle: Handle) -> Iterator[None]:
        """Give an object back at once: a TPM without a resource manager has room for three."""
        try:
            yield
        finally:
            self.esys.flush_context(handle)

    def flush(self) -> None:
        """Give back all that is loaded."""
        for handle in reversed(self._loaded):
            with suppress(self.lib.TSS2_Exception):
                self.esys.flush_context(handle)
        self._loaded.clear()


def _storage_key(lib: Library) -> Handle:
    flags = lib.TPMA_OBJECT
    attributes = (
        flags.RESTRICTED | flags.DECRYPT | flags.FIXEDTPM | flags.FIXEDPARENT
        | flags.SENSITIVEDATAORIGIN | flags.USERWITHAUTH | flags.NODA
    )  # fmt: skip
    return lib.TPMT_PUBLIC.parse("ecc256:aes128cfb", objectAttributes=attributes)


def _sealed(lib: Library, policy: bytes) -> Handle:
    """Return the template of a sealed object."""
    attributes = lib.TPMA_OBJECT.FIXEDTPM | lib.TPMA_OBJECT.FIXEDPARENT | lib.TPMA_OBJECT.NODA
    if not policy:
        attributes |= lib.TPMA_OBJECT.USERWITHAUTH
    scheme = lib.TPMT_KEYEDHASH_SCHEME(scheme=lib.TPM2_ALG.NULL)
    details = lib.TPMS_KEYEDHASH_PARMS(scheme=scheme)
    return lib.TPMT_PUBLIC(
        type=lib.TPM2_ALG.KEYEDHASH,
        nameAlg=lib.TPM2_ALG.SHA256,
        objectAttributes=attributes,
        authPolicy=policy,
        parameters=lib.TPMU_PUBLIC_PARMS(keyedHashDetail=details),
    )
