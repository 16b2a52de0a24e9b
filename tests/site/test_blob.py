"""A child as etcd holds it: what was written is read, and nothing else is."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.move import Generation, Move, Moves
from gatewayd.device.proof import Pin
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import BlobDamaged, BlobTooLarge, ConfigError
from gatewayd.secretstore.vault import crypto
from gatewayd.site.replica import blob as site_blob
from gatewayd.site.replica.blob import (
    MAX_BYTES,
    BlobKeys,
    ChildBlob,
    key_of_child,
    open_blob,
    seal_blob,
)

KEYS = BlobKeys(bytes(16), 2, {1: b"a" * 32, 2: b"b" * 32}, b"n" * 32)
NAME = CloudName("east", "sensor", "TH20-1")
KEY = key_of_child(KEYS, 7, NAME)
ONE = DeviceId("child-0123456789ab")

numbers = st.integers(0, (1 << 63) - 1)
texts = st.text(max_size=20)
generations = st.builds(
    Generation, texts, texts, texts, texts, numbers, numbers, numbers, numbers, numbers, numbers,
    numbers, numbers, numbers,
)  # fmt: skip
moves = st.builds(
    Moves,
    st.none()
    | st.builds(Move, generations, numbers, st.sampled_from([NONE, Reason("a", "b", "c", "d")])),
    st.lists(generations, max_size=3).map(tuple),
    numbers,
)
records = st.builds(
    Record,
    device=st.text("0123456789abcdef", min_size=1, max_size=64).map(
        lambda d: DeviceId(f"child-{d}")
    ),
    claims=st.frozensets(st.builds(Claim, texts, texts, texts), max_size=4),
    label=texts,
    verdict=st.sampled_from(Verdict),
    admission=st.sampled_from(Admission),
    rule=texts,
    reason=texts,
    cloud=st.builds(CloudName, texts, texts, texts, texts),
    explanation=texts,
    remedy=texts,
    pin=st.none() | st.builds(Pin, texts, texts, texts, texts, texts, numbers, texts, texts),
    moves=moves,
    **dict.fromkeys(site_blob._NUMBERS, numbers),
)


@st.composite
def blobs(draw: st.DrawFn) -> ChildBlob:
    record = draw(records)
    slots = st.builds(SecretRef, texts, st.just(record.device), numbers, texts)
    secrets = st.dictionaries(slots, st.binary(max_size=40).map(Secret), max_size=4)
    return ChildBlob(draw(numbers), record, draw(secrets))


def small() -> ChildBlob:
    record = Record(
        ONE, frozenset({Claim("serial", "_x._tcp", "1")}), "Kitchen", Verdict.ADMITTED,
        Admission.RULE, "sensors", "", NAME, 1, 2, attempt=3, stored=3,
    )  # fmt: skip
    return ChildBlob(5, record, {record.slot(3): Secret(b"issued")})


def forged(content: bytes, keys: BlobKeys = KEYS, key: str = KEY) -> bytes:
    """Seal any content as a member could."""
    head = b"gwds" + bytes((site_blob.VERSION,)) + keys.epoch.to_bytes(4, "big")
    nonce = os.urandom(12)
    own = site_blob._key_for(keys.keys[keys.epoch], key)
    context = site_blob._context(keys, head, key)
    return head + nonce + crypto.encrypt(own, nonce, content, context)


def test_every_fact_of_a_record_has_a_place() -> None:
    placed = site_blob._APART | site_blob._NUMBERS | site_blob._TEXTS
    assert placed == {one.name for one in fields(Record)}


@settings(max_examples=100, deadline=None)
@given(blob=blobs())
def test_what_was_sealed_is_opened(blob: ChildBlob) -> None:
    assert blob.record is not None
    assert blob.record.cloud is not None
    opened = open_blob(KEYS, KEY, seal_blob(KEYS, KEY, blob, os.urandom))
    assert opened == blob
    assert opened.record is not None
    assert opened.record.cloud is not None
    assert opened.record.cloud.route == blob.record.cloud.route  # which no name is compared by
    assert opened.says_the_same(blob)


def test_what_was_forgotten_is_opened() -> None:
    gone = ChildBlob(9, None, {}, 1_790_000_000_000_000)
    assert open_blob(KEYS, KEY, seal_blob(KEYS, KEY, gone, os.urandom)) == gone


def test_serial_and_the_id_at_a_gateway_make_no_difference() -> None:
    one = small()
    assert one.record is not None
    record = replace(one.record, device=DeviceId("child-ff"))
    other = ChildBlob(6, record, {record.slot(3): Secret(b"issued")})
    assert one.says_the_same(other)
    assert not one.says_the_same(replace(other, secrets={record.slot(3): Secret(b"another")}))
    assert not one.says_the_same(replace(other, record=replace(record, label="Cellar")))


def test_an_older_epoch_is_opened_and_an_unknown_one_named() -> None:
    sealed = seal_blob(replace(KEYS, epoch=1), KEY, small(), os.urandom)
    assert open_blob(KEYS, KEY, sealed) == small()
    with pytest.raises(BlobDamaged, match="epoch 1, which is not known here"):
        open_blob(replace(KEYS, keys={2: b"b" * 32}), KEY, sealed)


@pytest.mark.parametrize(
    "other",
    [
        (replace(KEYS, site=b"\1" * 16), KEY),
        (replace(KEYS, keys={2: b"c" * 32}), KEY),
        (KEYS, key_of_child(KEYS, 8, NAME)),
        (KEYS, key_of_child(KEYS, 7, CloudName("east", "sensor", "TH20-2"))),
    ],
    ids=["site", "key", "shard", "child"],
)
def test_a_blob_opens_nowhere_else(other: tuple[BlobKeys, str]) -> None:
    keys, key = other
    with pytest.raises(BlobDamaged, match="does not open"):
        open_blob(keys, key, seal_blob(KEYS, KEY, small(), os.urandom))


def test_no_byte_can_be_changed_or_cut_off() -> None:
    sealed = seal_blob(KEYS, KEY, small(), os.urandom)
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1
        with pytest.raises((BlobDamaged, ConfigError)):
            open_blob(KEYS, KEY, bytes(altered))
        with pytest.raises(BlobDamaged):
            open_blob(KEYS, KEY, sealed[:at])


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=80))
def test_hostile_bytes_are_refused(data: bytes) -> None:
    for sealed in (data, b"gwds\1" + data, b"gwds\1\0\0\0\2" + data, forged(data)):
        with pytest.raises(BlobDamaged):
            open_blob(KEYS, KEY, sealed)


def test_a_newer_version_is_refused_with_a_sentence() -> None:
    sealed = bytearray(seal_blob(KEYS, KEY, small(), os.urandom))
    sealed[4] += 1
    with pytest.raises(ConfigError, match=r"newer gatewayd \(version 2, this one knows 1\)"):
        open_blob(KEYS, KEY, bytes(sealed))


FIRST = base64.b64decode(
    "Z3dkcwEAAAACAAECAwQFBgcICQoLC0YZql1XHF4RbHq+08g9PXrG9TZo40dD4/aBXuA4rK0gmIh6mrlEdT+MatSM7v"
    "ABFc7U1Vu1k5Qzw97bEfCyTyt3MAzzok+lGResszaN6CTxQm4orKf4wmJbW8/rUByGVHB8zKtjjrfPHE4gSHm5QAVW"
    "KfgakNWV2ucVHOu3bZXvLGe3NoxGa3WoDgk+PdvdvgdHdoHPcU2ciM4T7hyKD7awrFesWIBpZoSbTZoUvK01kouywQ"
    "qq3yjx4z4e3oj5l1QtJqPl7OUNOefeSjU5bbuhHTBwzefN93uJVqfljSrxmAm+rxH2UmzhJN7Cwsqf8A+AdO5l0bKd"
    "OTuNmSYLO7Pr5zgwioGuZS6Z41NNSgkk43fvpbmaVmIGJOEdANlVvfEHXV51LZ2yTaapp02r21bFpx04/nw1HCBPGh"
    "9YGy+NP5VsV4ZlrF/E4GPNJu2d/Am6xvgOOL+2vr/NwyOZPNRlggBFwFA8RWVUS/dG6Dn8nJ5hJSuzopqRKCbqjitc"
    "b/RAir6KwXbEES+7lp8XBpy+eIukvA05n3rVfqzHhTIO8nhdaS54IqwDmFJLAaLS7RDl2sQTYRnoINZkg3gcnevA6S"
    "Cb4M94X59ME14beFRKTarApQHiL6U="
)
"""`small()`, as the first version has written it."""


def test_a_blob_of_the_first_version_is_read() -> None:
    assert open_blob(KEYS, KEY, FIRST) == small()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_member_that_lies_is_refused(data: st.DataObject) -> None:
    """Each fact in turn is of any other type; what is taken is a record all the same."""
    content: dict[str, Any] = site_blob._content(small())
    part = data.draw(st.sampled_from([content, content["record"]]))
    part[data.draw(st.sampled_from([*part, "another"]))] = data.draw(json_values)
    try:
        opened = open_blob(KEYS, KEY, forged(json.dumps(content).encode()))
    except BlobDamaged:
        return
    assert open_blob(KEYS, KEY, seal_blob(KEYS, KEY, opened, os.urandom)) == opened


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"serial":1,"forgotten_at":' + b"9" * 5000 + b"}",
        b'{"serial":-1,"forgotten_at":1}',
        b'{"serial":true,"forgotten_at":1}',
        b"\xff",
    ],
    ids=["deep", "long", "negative", "boolean", "no text"],
)
def test_content_that_is_no_child_is_refused(content: bytes) -> None:
    with pytest.raises(BlobDamaged, match="holds no child"):
        open_blob(KEYS, KEY, forged(content))


def test_what_is_too_large_is_refused_at_both_ends() -> None:
    blob = small()
    assert blob.record is not None
    large = replace(blob, secrets={blob.record.slot(1): Secret(bytes(MAX_BYTES))})
    with pytest.raises(BlobTooLarge, match="cannot be replicated"):
        seal_blob(KEYS, KEY, large, os.urandom)
    with pytest.raises(BlobDamaged, match="larger than"):
        open_blob(KEYS, KEY, forged(bytes(2 * MAX_BYTES)))


def test_neither_names_nor_secrets_are_in_the_clear() -> None:
    sealed = seal_blob(KEYS, KEY, small(), os.urandom)
    for hidden in (b"sensor", b"TH20-1", b"issued", b"Kitchen"):
        assert hidden not in sealed
        assert hidden not in KEY.encode()
    assert "aaaa" not in repr(KEYS)
    assert key_of_child(replace(KEYS, names=b"o" * 32), 7, NAME) != KEY
