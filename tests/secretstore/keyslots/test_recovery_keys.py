"""Public keys for which nothing can be encrypted are refused, as what they are."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatewayd.errors import ConfigError
from gatewayd.secretstore.keyslots import recovery

P = 2**255 - 19
ORDER_8 = (
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
)
SMALL = (*(number.to_bytes(32, "little").hex() for number in (0, 1, P - 1, P, P + 1)), *ORDER_8)
"""All points of small order of Curve25519 (RFC 7748, 6.1; cr.yp.to/ecdh.html)."""


@pytest.mark.parametrize("point", SMALL)
def test_a_point_of_small_order_is_no_recovery_key(point: str) -> None:
    key = X25519PublicKey.from_public_bytes(bytes.fromhex(point))
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ConfigError, match="nothing can be encrypted"):
        recovery.read_public(pem)
