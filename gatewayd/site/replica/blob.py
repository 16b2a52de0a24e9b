"""A child as etcd holds it: its record and the secrets of all its slots, as one ciphertext.  Pure.

A blob is a head in the clear, which says how to open it, and a ciphertext:

    "gwds" | version, 1 byte | epoch of the key, 4 | nonce, 12 | ciphertext of JSON (AES-256-GCM)

Each key in etcd has an encryption key of its own, derived from the site's (HKDF), so that the
limit of random nonces under one key (2^32, NIST SP 800-38D, 8.3) is that of one child.  Head, site
and key in etcd are its associated data: a blob that was put elsewhere, or has another epoch written
on it, does not open.  An older blob in the place of a newer one does; `serial` shows that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.move import NO_MOVES, Moves
from gatewayd.device.proof import Pin
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import BlobDamaged, BlobTooLarge, ConfigError
from gatewayd.secretstore.vault import crypto
from gatewayd.secretstore.vault.crypto import NONCE_SIZE, DecryptionError

VERSION = 1
MAX_BYTES = 128 << 10
"""Bytes of one blob, at most: a response of 1 MiB, in Base64, has room for five."""
MAX_SECRETS = 128
"""Slots of one child, at most."""

_MAGIC: Final = b"gwds"
_EPOCH_SIZE = 4
_HEAD_SIZE = len(_MAGIC) + 1 + _EPOCH_SIZE
_MOST = (1 << 63) - 1
_DEVICE = re.compile(r"child-[0-9A-Za-z._-]{1,80}", re.ASCII)
_ENUMS: Mapping[str, Callable[[str], Any]] = {"verdict": Verdict, "admission": Admission}
_APART = {"device", "claims", "cloud", "pin", "moves", "elsewhere", *_ENUMS}
"""Facts of a record that are neither texts nor numbers; `elsewhere` is not on any disk."""
_OPTIONAL = {one.name for one in fields(Record) if one.default is not MISSING}
_NUMBERS = {one.name for one in fields(Record) if one.type == "int"} - _APART
_TEXTS = {one.name for one in fields(Record) if one.type == "str"} - _APART


@dataclass(frozen=True, slots=True)
class ChildBlob:
    """What a blob holds.

    serial: of this write: larger than of any before, by whichever gateway, and where it is known
    the time, in microseconds since the epoch; so a child that is back after long is newer, too.
    record: None once the child is forgotten.  secrets: of all its slots.
    forgotten_at: microseconds since the epoch; 0 where it has a record.
    """

    serial: int
    record: Record | None
    secrets: Mapping[SecretRef, Secret] = field(default_factory=dict)
    forgotten_at: int = 0

    def says_the_same(self, other: ChildBlob) -> bool:
        """Whether another one differs in its serial, or in the device's id at a gateway, alone."""
        return _content(self, neutral=True) == _content(other, neutral=True)


@dataclass(frozen=True, slots=True)
class BlobKeys:
    """What opens and seals blobs.

    site: 16 bytes that name the site.  epoch: of the key for what is written.
    keys: of the site, 32 bytes each, by epochs.  names: hides the names of children in keys.
    """

    site: bytes
    epoch: int
    keys: Mapping[int, bytes] = field(repr=False)
    names: bytes = field(repr=False)


def key_of_child(keys: BlobKeys, shard: int, name: CloudName) -> str:
    """Return the key of a child in etcd, below the prefix of the site.

    The name is hidden by a key that only members have: the hash alone of a serial number could be
    guessed.  The name of its cloud counts, so that all gateways have to call that the same.
    """
    text = f"{name.provider}\0{name.product}\0{name.device}".encode(errors="surrogateescape")
    return f"{keys_of_shard(shard)}{hmac.digest(keys.names, text, hashlib.sha256).hex()}"


def keys_of_shard(shard: int) -> str:
    """Return how the keys of all children of a shard begin, below the prefix of the site."""
    return f"child/{shard:02d}/"


def seal_blob(keys: BlobKeys, key: str, blob: ChildBlob, random: Callable[[int], bytes]) -> bytes:
    """Encrypt a blob for its key in etcd.  Raises BlobTooLarge.

    key: below the prefix of the site.
    """
    plain = json.dumps(_content(blob), ensure_ascii=True, separators=(",", ":")).encode("ascii")
    if len(plain) > MAX_BYTES or len(blob.secrets) > MAX_SECRETS:
        raise BlobTooLarge(
            f"a child cannot be replicated: {len(plain)} bytes with {len(blob.secrets)} secrets, "
            f"and the limits are {MAX_BYTES} and {MAX_SECRETS}. Forget what it has at clouds that "
            "it has left"
        )
    head = _MAGIC + bytes((VERSION,)) + keys.epoch.to_bytes(_EPOCH_SIZE, "big")
    nonce = random(NONCE_SIZE)
    own = _key_for(keys.keys[keys.epoch], key)
    return head + nonce + crypto.encrypt(own, nonce, plain, _context(keys, head, key))


def epoch_of(sealed: bytes) -> int:
    """Return the epoch of the key that a blob was sealed with.  Raises BlobDamaged, ConfigError."""
    if len(sealed) <= _HEAD_SIZE + NONCE_SIZE or not sealed.startswith(_MAGIC):
        raise BlobDamaged("a blob of the site has no head: it was not written by gatewayd")
    if (version := sealed[len(_MAGIC)]) > VERSION:
        raise ConfigError(
            f"a child of the site was written by a newer gatewayd (version {version}, this one "
            f"knows {VERSION}): install that version here, too"
        )
    return int.from_bytes(sealed[len(_MAGIC) + 1 : _HEAD_SIZE], "big")


def open_blob(keys: BlobKeys, key: str, sealed: bytes) -> ChildBlob:
    """Open a blob from its key in etcd.  Raises BlobDamaged, ConfigError."""
    epoch = epoch_of(sealed)
    if len(sealed) > 2 * MAX_BYTES:
        raise BlobDamaged("a blob of the site is larger than gatewayd writes any")
    if epoch not in keys.keys:
        raise BlobDamaged(f"a blob of the site has a key of epoch {epoch}, which is not known here")
    head, rest = sealed[:_HEAD_SIZE], sealed[_HEAD_SIZE:]
    own = _key_for(keys.keys[epoch], key)
    try:
        plain = crypto.decrypt(own, rest[:NONCE_SIZE], rest[NONCE_SIZE:], _context(keys, head, key))
    except DecryptionError:
        raise BlobDamaged("a blob of the site does not open: it is damaged, or moved") from None
    try:
        return _blob(json.loads(plain))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise BlobDamaged("a blob of the site opens, and holds no child") from None


def _key_for(site_key: bytes, key: str) -> bytes:
    return crypto.derive(site_key, b"gatewayd-site-blob\0" + key.encode("ascii"))


def _context(keys: BlobKeys, head: bytes, key: str) -> bytes:
    return b"gatewayd-site-blob\0" + head + keys.site + key.encode("ascii")


def _content(blob: ChildBlob, *, neutral: bool = False) -> dict[str, Any]:
    """Return a blob as JSON has it.  neutral: without what differs among gateways."""
    if blob.record is None:
        content: dict[str, Any] = {"forgotten_at": blob.forgotten_at}
    else:
        content = {"record": _facts(blob.record), "secrets": _secrets(blob.secrets)}
        if neutral:
            content["record"].pop("device")
    return content if neutral else {"serial": blob.serial, **content}


def _facts(record: Record) -> dict[str, Any]:
    cloud = record.cloud
    assert cloud is not None, "a child without a name at a cloud stays at its gateway"
    return {
        "device": record.device,
        "claims": sorted([c.kind, c.namespace, c.value] for c in record.claims),
        "cloud": [cloud.provider, cloud.product, cloud.device, cloud.route],
        "pin": "" if record.pin is None else record.pin.text(),
        "moves": "" if record.moves == NO_MOVES else record.moves.text(),
        **{name: str(getattr(record, name)) for name in sorted(_TEXTS | _ENUMS.keys())},
        **{name: getattr(record, name) for name in sorted(_NUMBERS)},
    }


def _secrets(secrets: Mapping[SecretRef, Secret]) -> list[list[Any]]:
    return [
        [ref.provider, ref.attempt, ref.kind, base64.b64encode(secrets[ref].reveal()).decode()]
        for ref in sorted(secrets)
    ]


def _blob(content: Any) -> ChildBlob:  # noqa: ANN401  # what is in JSON can be anything
    """Return a blob of what JSON had.  Raises KeyError, TypeError, ValueError."""
    serial = _number(content["serial"])
    if "record" not in content:
        return ChildBlob(serial, None, {}, _number(content["forgotten_at"]))
    record = _record(dict(content["record"]))
    listed = content["secrets"]
    if not isinstance(listed, list) or len(listed) > MAX_SECRETS:
        raise ValueError("the secrets are a list with a bound")
    secrets = dict(_secret(record.device, *one) for one in listed)
    if len(secrets) != len(listed):
        raise ValueError("a slot has one secret")
    return ChildBlob(serial, record, secrets)


def _record(facts: dict[str, Any]) -> Record:
    """Return a record.  What came later, and is not in an older blob, is as it was then."""
    device = _text(facts.pop("device"))
    if not _DEVICE.fullmatch(device):
        raise ValueError("a child has an id")
    cloud = CloudName(*map(_text, facts.pop("cloud")))
    claims = frozenset(Claim(*map(_text, claim)) for claim in facts.pop("claims"))
    pin, moves = _text(facts.pop("pin", "")), _text(facts.pop("moves", ""))
    known: dict[str, Any] = {}
    for name in _TEXTS | _NUMBERS | _ENUMS.keys():
        if name not in facts and name in _OPTIONAL:
            continue
        value = facts.pop(name)
        known[name] = _number(value) if name in _NUMBERS else _ENUMS.get(name, str)(_text(value))
    if facts:
        raise ValueError("a record has other facts")
    return Record(
        device=DeviceId(device),
        claims=claims,
        cloud=cloud,
        pin=Pin.parse(pin) if pin else None,
        moves=Moves.parse(moves) if moves else NO_MOVES,
        **known,
    )


def _secret(
    device: DeviceId, provider: object, attempt: object, kind: object, value: object
) -> tuple[SecretRef, Secret]:
    ref = SecretRef(_text(provider), device, _number(attempt), _text(kind))
    try:
        return ref, Secret(base64.b64decode(_text(value), validate=True))
    except binascii.Error as error:
        raise ValueError("a secret is in Base64") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("that is no text")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError("that is no number of a record")
    return value
