"""A policy signed by the owner of a fleet: which measured boots may unseal the key.

The key is sealed under PolicyAuthorize with the owner's public key.  When firmware or its keys
change PCR 7, the owner signs a policy for the new value, and the same sealed key opens
(TPM 2.0 Library, part 3, TPM2_PolicyAuthorize and TPM2_PolicyPCR).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gatewayd.secretstore.tpm.esapi import Handle, Tpm, TpmError, translate_errors

PCRS = "sha256:7"
"""What Secure Boot measures: updates of the kernel do not change it."""

MAX_BYTES = 16_384
_AUTHORIZE = (0x16A).to_bytes(4, "big")  # TPM_CC_PolicyAuthorize
_DIGEST = 32


@dataclass(frozen=True, slots=True)
class SignedPolicy:
    """The files of a signed policy, as the owner of a fleet distributes them.

    key: PEM file of the public key, RSA or ECC P-256.  policy: file of the signed digest,
    32 bytes, as `current_policy` and tpm2_policypcr(1) write it.  signature: file of its
    signature, as `openssl dgst -sha256 -sign KEY POLICY` writes it.
    """

    key: Path
    policy: Path
    signature: Path

    def seal(self, tpm: Tpm) -> tuple[bytes, bytes]:
        """Return the owner's key as the TPM writes it, and the digest to seal under."""
        lib, flags = tpm.lib, tpm.lib.TPMA_OBJECT
        owner = self._public_key()
        area = lib.TPM2B_PUBLIC.from_pem(
            _read(self.key), objectAttributes=flags.SIGN_ENCRYPT | flags.USERWITHAUTH
        )
        if isinstance(owner, EllipticCurvePublicKey):
            # the library drops leading zeros, and the TPM refuses what is left
            numbers, point = owner.public_numbers(), area.publicArea.unique.ecc
            point.x, point.y = (n.to_bytes(_DIGEST, "big") for n in (numbers.x, numbers.y))
        public: bytes = area.marshal()
        key = _load(tpm, public)
        with tpm.flushing(key):
            return public, authorize_digest(bytes(tpm.esys.tr_get_name(key)))

    def session(self, tpm: Tpm, public: bytes) -> Handle:
        """Return a session in which the measured boot was approved by the owner's signature.

        public: what `seal` has returned.  Raises TpmError.
        """
        approved, session = _read(self.policy), _measured(tpm)
        key = _load(tpm, public)
        with tpm.flushing(key):
            name = tpm.esys.tr_get_name(key)
            ticket = tpm.esys.verify_signature(
                key_handle=key,
                digest=hashlib.sha256(approved).digest(),
                signature=self._signature(tpm),
            )
        tpm.esys.policy_authorize(
            policy_session=session,
            approved_policy=approved,
            policy_ref=b"",
            key_sign=name,
            check_ticket=ticket,
        )
        return session

    def _signature(self, tpm: Tpm) -> Handle:
        lib, raw = tpm.lib, _read(self.signature)
        signature = lib.TPMT_SIGNATURE()
        if isinstance(self._public_key(), RSAPublicKey):
            signature.sigAlg = lib.TPM2_ALG.RSASSA
            signature.signature.rsassa.hash = lib.TPM2_ALG.SHA256
            signature.signature.rsassa.sig = raw
        else:
            r, s = decode_dss_signature(raw)
            signature.sigAlg = lib.TPM2_ALG.ECDSA
            signature.signature.ecdsa.hash = lib.TPM2_ALG.SHA256
            signature.signature.ecdsa.signatureR = r.to_bytes(_DIGEST, "big")
            signature.signature.ecdsa.signatureS = s.to_bytes(_DIGEST, "big")
        return signature

    def _public_key(self) -> RSAPublicKey | EllipticCurvePublicKey:
        try:
            key = load_pem_public_key(_read(self.key))
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if isinstance(key, RSAPublicKey):
            return key
        if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
            return key
        raise TpmError(f"{self.key} is no public key, RSA or ECC P-256, in PEM")


def current_policy(tpm: Tpm) -> bytes:
    """Return the digest of the policy for the present value of PCR 7, for the owner to sign."""
    with translate_errors(tpm.lib):
        return bytes(tpm.esys.policy_get_digest(policy_session=_measured(tpm)))


def authorize_digest(name: bytes) -> bytes:
    """Return the digest of PolicyAuthorize by the key of this name, without a policyRef."""
    once = hashlib.sha256(bytes(_DIGEST) + _AUTHORIZE + name).digest()
    return hashlib.sha256(once).digest()


def _measured(tpm: Tpm) -> Handle:
    session = tpm.begin(tpm.lib.TPM2_SE.POLICY)
    tpm.esys.policy_pcr(policy_session=session, pcr_digest=b"", pcrs=PCRS)
    return session


def _load(tpm: Tpm, public: bytes) -> Handle:
    return tpm.esys.load_external(
        in_public=tpm.lib.TPM2B_PUBLIC.unmarshal(public)[0],
        hierarchy=tpm.lib.ESYS_TR.OWNER,
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        raise TpmError(f"{path} cannot be read ({error.strerror})") from None
