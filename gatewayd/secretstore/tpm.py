"""The TPM, in process: what it seals, it alone unseals.

By ESAPI, with keyword arguments: releases 1.2 to 2.x of tpm2-pytss share them.  What crosses the
bus of the TPM is encrypted, in sessions salted with the primary key (TPM 2.0 Library, part 1,
"Session-based encryption").  Objects have no authorization value and the attribute noDA, so that
no number of failures can lock the TPM.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gatewayd.secretstore.tpmlib import Handle, Library, TpmError, library, look_for, translated

OTHER_TPM = "this is not the TPM that has sealed the key, or it was cleared"


@contextmanager
def opened(tcti: str) -> Iterator[Tpm]:
    """Open a TPM; afterwards nothing of ours is left in it.

    tcti: as tpm2-tss writes it: device:/dev/tpmrm0, swtpm:path=….  Raises TpmError.
    """
    look_for(tcti)
    lib = library()
    with translated(lib), lib.ESAPI(tcti=tcti) as esys:
        tpm = Tpm(lib, esys)
        try:
            tpm.start()
            yield tpm
        finally:
            tpm.flush()


class Tpm:
    """An open TPM.

    lib: the library.  esys: its context.  session: encrypts what crosses the bus.
    primary: the storage key of the owner.  name: of that key, which tells TPMs apart.
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
