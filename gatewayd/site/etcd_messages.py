"""The requests and responses of etcd's JSON gateway that gatewayd uses.  Pure.

Source: the API of etcd 3.4 and 3.5, Documentation/dev-guide/api_grpc_gateway and rpc.proto: keys
and values are in Base64, numbers of 64 bits are texts of digits, and what is 0, false or empty is
left out.  What a response holds is believed in its form only: each field is checked, and counted.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

MAX_OPERATIONS = 128
"""Compares of one transaction, and operations of one branch: max-txn-ops of etcd, by default."""
MAX_PAIRS = 4096
"""Keys in one response that are read."""
MAX_TEXT = 200
"""Characters of an error of etcd that are shown."""

_LOSSLESS = "surrogateescape"
MAX_CODE = 99
"""Above any code of gRPC."""

_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_LARGEST = (1 << 63) - 1


class EtcdFormatError(Exception):
    """What came is no response of etcd."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its value, and the revisions at which it was created and last changed.

    key: as it is, by any writer: what is no UTF-8 in it is escaped by surrogates.
    lease: with which it ends; 0 for none.
    """

    key: str
    value: bytes
    created: int
    changed: int
    lease: int = 0


class Compared(StrEnum):
    """What of a key is compared; of one that does not exist each is 0."""

    CREATED = "create_revision"
    CHANGED = "mod_revision"
    LEASE = "lease"


@dataclass(frozen=True, slots=True)
class Compare:
    """The condition that a number of a key is this one."""

    key: str
    subject: Compared
    number: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write a value.  lease: with which the key ends; 0 for none."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key, if it is there."""

    key: str


@dataclass(frozen=True, slots=True)
class Get:
    """Read a key, or all that begin so.

    limit: of what is returned; 0 for none.  after: the key behind which to begin, of those that
    begin so; "" for the first.  without_values: whether what is found has empty values.
    """

    key: str
    is_prefix: bool = False
    limit: int = 0
    after: str = ""
    without_values: bool = False


Operation: TypeAlias = Put | Delete | Get


@dataclass(frozen=True, slots=True)
class FoundKeys:
    """What a `Get` has found, in the order of the keys.  more: whether the limit cut it off."""

    pairs: tuple[KeyValue, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class EtcdTxn:
    """The result of a transaction.

    succeeded: whether all compares were true.  revision: of etcd, after it: what it has written was
    created or changed at this one.  found: of each `Get` of the branch that was carried out.
    cluster: the number of the etcd of which the member that answered is one; "" where it says none.
    """

    succeeded: bool
    revision: int
    found: tuple[FoundKeys, ...] = ()
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class EtcdLease:
    """A lease.  seconds: until it ends; 0 for one that is no more.  cluster: as of `EtcdTxn`."""

    number: int
    seconds: int
    cluster: str = ""


def after_prefix(prefix: str) -> bytes:
    """Return the first key that does not begin with a prefix, which ends with ASCII."""
    begin = _key(prefix)
    return begin[:-1] + bytes((begin[-1] + 1,))


def txn_body(
    compares: Iterable[Compare], success: Iterable[Operation], failure: Iterable[Operation] = ()
) -> bytes:
    """Return the body of a transaction.  Each key may be written once in it."""
    return body_of(
        {
            "compare": [_compare(one) for one in compares],
            "success": [_operation(one) for one in success],
            "failure": [_operation(one) for one in failure],
        }
    )


def body_of(document: Mapping[str, Any]) -> bytes:
    """Return a JSON document as it is sent."""
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _compare(one: Compare) -> Mapping[str, Any]:
    target = {Compared.CREATED: "CREATE", Compared.CHANGED: "MOD", Compared.LEASE: "LEASE"}
    return {
        "key": _base64(_key(one.key)),
        "target": target[one.subject],
        "result": "EQUAL",
        str(one.subject): str(one.number),
    }


def _operation(one: Operation) -> Mapping[str, Any]:
    key: dict[str, Any] = {"key": _base64(_key(one.key))}
    if isinstance(one, Put):
        return {"request_put": {**key, "value": _base64(one.value), "lease": str(one.lease)}}
    if isinstance(one, Delete):
        return {"request_delete_range": key}
    end = {"range_end": _base64(after_prefix(one.key))} if one.is_prefix else {}
    begin = {"key": _base64(_key(one.after) + b"\0")} if one.after else key
    bare = {"keys_only": True} if one.without_values else {}
    return {"request_range": {**begin, **end, **bare, "limit": str(one.limit)}}


def _key(text: str) -> bytes:
    return text.encode("utf-8", _LOSSLESS)


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


# What comes back.


def parse_txn(body: bytes) -> EtcdTxn:
    """Return the result of a transaction.  Raises EtcdFormatError."""
    document = document_of(body)
    found = tuple(
        _found(_table(one, "response_range"))
        for one in _list(document, "responses", MAX_OPERATIONS)
        if isinstance(one, dict) and "response_range" in one
    )
    revision = _number(_table(document, "header"), "revision")
    return EtcdTxn(_truth(document, "succeeded"), revision, found, _cluster(document))


def _cluster(document: Mapping[str, Any]) -> str:
    cluster = _table(document, "header").get("cluster_id")
    return cluster if isinstance(cluster, str) and _is_number(cluster) else ""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS


def parse_lease(body: bytes) -> EtcdLease:
    """Return a lease that was granted or renewed.  Raises EtcdFormatError."""
    document: Mapping[str, Any] = document_of(body)
    if "result" in document:
        document = _table(document, "result")
    return EtcdLease(_number(document, "ID"), _number(document, "TTL"), _cluster(document))


def parse_token(body: bytes) -> str:
    """Return the token of a login, in printable ASCII.  Raises EtcdFormatError."""
    token = document_of(body).get("token")
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN or not _is_token(token):
        raise EtcdFormatError("no token")
    return token


MAX_TOKEN = 4096
MAX_DIGITS = 20
"""Of a number of 64 bits."""


def _is_token(text: str) -> bool:
    return all("!" <= one <= "~" for one in text)


@dataclass(frozen=True, slots=True)
class EtcdFault:
    """Why etcd refuses a request.  code: of gRPC; 0 where none came.  text: printable ASCII."""

    code: int
    text: str


def parse_fault(body: bytes) -> EtcdFault:
    """Return why a request was refused, whatever the response is."""
    try:
        document = document_of(body)
    except EtcdFormatError:  # plain text, of what stands before the API
        return EtcdFault(0, _shown(body[:MAX_TEXT].decode("ascii", "replace").strip()))
    if isinstance(inner := document.get("error"), dict):  # of a stream
        document = inner
    code, text = document.get("code"), document.get("message", document.get("error"))
    number = code if isinstance(code, int) and 0 <= code <= MAX_CODE else 0
    return EtcdFault(number, _shown(text[:MAX_TEXT] if isinstance(text, str) else ""))


def _shown(text: str) -> str:
    return "".join(one if " " <= one <= "~" else "?" for one in text)


def document_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a response.  Raises EtcdFormatError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise EtcdFormatError("no JSON") from None
    if not isinstance(document, dict):
        raise EtcdFormatError("no object")
    return document


def _found(table: Mapping[str, Any]) -> FoundKeys:
    pairs = tuple(map(_pair, _list(table, "kvs", MAX_PAIRS)))
    return FoundKeys(pairs, _truth(table, "more"))


def _pair(one: object) -> KeyValue:
    if not isinstance(one, dict):
        raise EtcdFormatError("no pair of key and value")
    return KeyValue(
        _bytes(one, "key").decode("utf-8", _LOSSLESS),
        _bytes(one, "value"),
        _number(one, "create_revision"),
        _number(one, "mod_revision"),
        _number(one, "lease"),
    )


def _bytes(table: Mapping[str, Any], name: str) -> bytes:
    value = table.get(name, "")
    if not isinstance(value, str):
        raise EtcdFormatError(f"{name} is no text")
    try:
        return b64decode(value, validate=True)
    except ValueError:  # binascii.Error, or a character outside ASCII
        raise EtcdFormatError(f"{name} is no Base64") from None


def _number(table: Mapping[str, Any], name: str) -> int:
    value = table.get(name, "0")
    if not isinstance(value, str) or not _NUMBER.fullmatch(value) or int(value) > _LARGEST:
        raise EtcdFormatError(f"{name} is no number")
    return int(value)


def _truth(table: Mapping[str, Any], name: str) -> bool:
    value = table.get(name, False)
    if not isinstance(value, bool):
        raise EtcdFormatError(f"{name} is neither true nor false")
    return value


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = table.get(name, {})
    if not isinstance(value, dict):
        raise EtcdFormatError(f"{name} is no object")
    return value


def _list(table: Mapping[str, Any], name: str, most: int) -> list[Any]:
    value = table.get(name, [])
    if not isinstance(value, list) or len(value) > most:
        raise EtcdFormatError(f"{name} is no list, or too long")
    return value
