"""The owner of a fleet, who signs which measured boots may open a vault."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatewayd.secretstore.tpm.policy import SignedPolicy


class PolicySigner:
    """Has a key, and writes the files that the settings name."""

    def __init__(
        self, directory: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    ) -> None:
        self._key = key
        self.files = SignedPolicy(
            directory / "key.pem", directory / "pcr.policy", directory / "pcr.signature"
        )
        public = key.public_key()
        self.files.key.write_bytes(
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )

    def sign(self, policy: bytes) -> None:
        self.files.policy.write_bytes(policy)
        self.files.signature.write_bytes(self._signature(policy))

    def _signature(self, policy: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(policy, PKCS1v15(), SHA256())
        return self._key.sign(policy, ec.ECDSA(SHA256()))
