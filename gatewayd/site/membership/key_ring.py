"""The keys of a site, and the documents by which its members share them.  Pure.

    key of an epoch ──wrapped for the X25519 key of each member──► member/GATEWAY
                    └─AES-GCM──► ring: all earlier keys, and the members' public keys

A member that is removed is given no key of the next epoch.  That a new ring comes from a member
shows in the key of the epoch that was known before, which is in it; a newcomer, who knows none,
compares the fingerprint of the site, which an operator has read at a member.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.secretstore.keyslots import recovery
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault import crypto
from gatewayd.secretstore.vault.crypto import NONCE_SIZE, DecryptionError, WrappedKey
from gatewayd.settings.grammar import label
from gatewayd.site.replica.blob import BlobKeys
from gatewayd.site.shards import MAX_GATEWAYS

VERSION = 1
MAX_EPOCHS = 64
"""Keys of a site that are kept: blobs under older ones were written again long ago."""
MAX_DOCUMENT = 32 << 10
"""Bytes of one document."""

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_GROUP = 4
_RANDOM = 32
_HEX = 16


class DocumentFault(Exception):
    """A document of the site that no member has written, or a newer gatewayd.  Says which."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All that a member has to know.

    site: 16 bytes that name the site for ever.  epoch: of the key that is used.
    keys: by epochs.  names: hides the names of children.
    members: the public keys of all members (DER), by their names.
    """

    site: bytes
    epoch: int
    keys: Mapping[int, bytes] = field(repr=False)
    names: bytes = field(repr=False)
    members: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """What an operator gives to a newcomer: it is of the site and of the key in use."""
        proof = crypto.commitment(self.keys[self.epoch], self.site, self.epoch)
        return _grouped(hmac.digest(proof, b"gatewayd-site", hashlib.sha256))

    def blob_keys(self) -> BlobKeys:
        """Return what opens and seals the children of the site."""
        return BlobKeys(self.site, self.epoch, self.keys, self.names)

    def with_member(self, name: str, public: bytes) -> KeyRing:
        """Return the ring once a gateway is a member."""
        return replace(self, members={**self.members, name: public})

    def without_member(self, name: str, key: bytes) -> KeyRing:
        """Return the ring once a gateway is none any more.  key: of the next epoch."""
        keys = {**self.keys, self.epoch + 1: key}
        kept = {epoch: keys[epoch] for epoch in sorted(keys)[-MAX_EPOCHS:]}
        members = {other: public for other, public in self.members.items() if other != name}
        return replace(self, epoch=self.epoch + 1, keys=kept, members=members)

    def follows(self, known: KeyRing) -> bool:
        """Whether who wrote this ring knew another one, which is older or the same."""
        is_later = self.epoch >= known.epoch and self.site == known.site
        key = self.keys.get(known.epoch, b"")
        return is_later and hmac.compare_digest(key, known.keys[known.epoch])


def new_ring(name: str, public: bytes, random: Callable[[int], bytes]) -> KeyRing:
    """Return the ring of a new site.  name, public: of its only member."""
    site, key, names = random(crypto.UUID_SIZE), random(crypto.KEY_SIZE), random(_RANDOM)
    return KeyRing(site, 1, {1: key}, names, {name: public})


def fingerprint_of(public: bytes) -> str:
    """Return the fingerprint of a gateway.  public: DER."""
    return _grouped(hashlib.sha256(public).digest())


def parse_fingerprint(text: str) -> str | None:
    """Return a fingerprint as it is shown; None for what is none."""
    plain = re.sub(r"[\s:.-]", "", text.lower())
    return _grouped(bytes.fromhex(plain)) if _FINGERPRINT.fullmatch(plain) else None


def _grouped(digest: bytes) -> str:
    """Return the first 128 bits, which no one can find another key for."""
    text = digest[:_HEX].hex()
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


# In the vault of a member.


def to_secret(ring: KeyRing) -> Secret:
    """Return a ring as it is kept in the vault."""
    document = {**_document(ring), "site": ring.site.hex(), "epoch": ring.epoch}
    document["keys"] = {str(epoch): key.hex() for epoch, key in ring.keys.items()}
    return Secret(_dump(document))


def from_secret(secret: Secret) -> KeyRing:
    """Return what `to_secret` made.  Raises DocumentFault."""
    document = _load(secret.reveal(), "the key ring in the vault")
    try:
        return _ring(document, bytes.fromhex(document["site"]), int(document["epoch"]), {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DocumentFault("the key ring in the vault cannot be read") from error


# In etcd.


def seal_ring(ring: KeyRing, random: Callable[[int], bytes]) -> bytes:
    """Return the document of a ring, which the key of its epoch opens."""
    document = _document(ring)
    document["keys"] = {str(n): key.hex() for n, key in ring.keys.items() if n != ring.epoch}
    nonce = random(NONCE_SIZE)
    sealed = crypto.encrypt(
        _ring_key(ring.keys[ring.epoch]), nonce, _dump(document), _context(ring.site, ring.epoch)
    )
    return _dump(
        {
            "version": VERSION,
            "site": ring.site.hex(),
            "epoch": ring.epoch,
            "sealed": _text(nonce + sealed),
        }
    )


@dataclass(frozen=True, slots=True)
class SealedRing:
    """The document of a ring, before it is opened."""

    site: bytes
    epoch: int
    sealed: bytes

    def open(self, key: bytes) -> KeyRing:
        """Return the ring.  key: of its epoch.  Raises DocumentFault."""
        nonce, sealed = self.sealed[:NONCE_SIZE], self.sealed[NONCE_SIZE:]
        try:
            plain = crypto.decrypt(_ring_key(key), nonce, sealed, _context(self.site, self.epoch))
            document = _load(plain, "the key ring of the site")
            return _ring(document, self.site, self.epoch, {self.epoch: key})
        except (DecryptionError, KeyError, TypeError, ValueError, AttributeError):
            raise DocumentFault("the key ring of the site does not open: it is damaged") from None


def read_ring(data: bytes) -> SealedRing:
    """Return the document of a ring.  Raises DocumentFault."""
    document = _load(data, "the key ring of the site")
    try:
        site, epoch = bytes.fromhex(document["site"]), document["epoch"]
        sealed = b64decode(document["sealed"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise DocumentFault("the key ring of the site cannot be read") from error
    if len(site) != crypto.UUID_SIZE or type(epoch) is not int or not 0 < epoch < 1 << 32:
        raise DocumentFault("the key ring of the site cannot be read")
    return SealedRing(site, epoch, sealed)


@dataclass(frozen=True, slots=True)
class MemberDocument:
    """The document of a gateway, a member or one that waits.

    public: its X25519 key, DER.  wrapped: the key of the newest epoch; None for one that waits.
    by: the member where an operator has accepted it, or removed another one.
    """

    public: bytes
    wrapped: WrappedKey | None = None
    by: str = ""

    @property
    def fingerprint(self) -> str:
        """What an operator compares."""
        return fingerprint_of(self.public)

    def unwrap(self, own: RecoveryKey, sealed: SealedRing) -> bytes:
        """Return the key of the site's epoch.  Raises DocumentFault."""
        if self.wrapped is not None:
            with suppress(DecryptionError):
                return own.unwrap(self.wrapped, sealed.site, sealed.epoch)
        raise DocumentFault("the key of the site does not open with the key of this gateway")


def member_document(ring: KeyRing, name: str, by: str, random: Callable[[int], bytes]) -> bytes:
    """Return the document of a member, with the key of the epoch for it alone."""
    public = ring.members[name]
    key = memoryview(ring.keys[ring.epoch])
    wrapped = recovery.wrap(public, key, ring.site, ring.epoch, random)
    return _dump(
        {
            "version": VERSION,
            "public": _text(public),
            "nonce": _text(wrapped.nonce),
            "wrapped": _text(wrapped.ciphertext),
            "by": by,
        }
    )


def join_document(public: bytes) -> bytes:
    """Return the document of a gateway that waits for an operator's yes."""
    return _dump({"version": VERSION, "public": _text(public)})


def read_member(data: bytes) -> MemberDocument:
    """Return the document of a gateway.  Raises DocumentFault."""
    document = _load(data, "the document of a gateway")
    try:
        public = read_public(b64decode(document["public"], validate=True))
        if "wrapped" not in document:
            return MemberDocument(public)
        nonce, wrapped, by = (document[name] for name in ("nonce", "wrapped", "by"))
        kind = recovery.slot_kind(public)
        key = WrappedKey(
            kind, b"", b64decode(nonce, validate=True), b64decode(wrapped, validate=True)
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise DocumentFault("the document of a gateway cannot be read") from error
    return MemberDocument(public, key, by if isinstance(by, str) and not label(by) else "")


def read_public(der: bytes) -> bytes:
    """Return the X25519 key of a gateway, checked.  Raises ConfigError."""
    pem = b"-----BEGIN PUBLIC KEY-----\n" + b64encode(der) + b"\n-----END PUBLIC KEY-----\n"
    return recovery.read_public(pem)


def _document(ring: KeyRing) -> dict[str, Any]:
    members = {name: _text(public) for name, public in sorted(ring.members.items())}
    return {"version": VERSION, "names": ring.names.hex(), "members": members}


def _ring(
    document: Mapping[str, Any], site: bytes, epoch: int, known: Mapping[int, bytes]
) -> KeyRing:
    """Return a ring.  Raises KeyError, TypeError, ValueError, AttributeError, ConfigError."""
    keys = {int(n): bytes.fromhex(key) for n, key in document["keys"].items()} | dict(known)
    names = bytes.fromhex(document["names"])
    members = {name: b64decode(public, validate=True)
               for name, public in document["members"].items()}  # fmt: skip
    sizes = {*map(len, keys.values()), len(names)}
    if sizes != {crypto.KEY_SIZE} or epoch not in keys or len(site) != crypto.UUID_SIZE:
        raise ValueError("a ring has keys of 32 bytes, and that of its epoch")
    if len(keys) > MAX_EPOCHS or len(members) > MAX_GATEWAYS or any(map(label, members)):
        raise ValueError("a ring has so many keys and members, with names")
    return KeyRing(site, epoch, keys, names, members)


def _ring_key(key: bytes) -> bytes:
    return crypto.derive(key, b"gatewayd-site-ring")


def _context(site: bytes, epoch: int) -> bytes:
    return b"gatewayd-site-ring\0" + site + epoch.to_bytes(4, "big")


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def _load(data: bytes, what: str) -> dict[str, Any]:
    """Return a document of a version that is known.  Raises DocumentFault."""
    try:
        document = json.loads(data) if len(data) <= MAX_DOCUMENT else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or type(version := document.get("version")) is not int:
        raise DocumentFault(f"{what} cannot be read")
    if version > VERSION:
        raise DocumentFault(
            f"{what} was written by a newer gatewayd (version {version}, this one knows "
            f"{VERSION}): install that version here, too"
        )
    return document
