"""The devices that a gateway's request names.  Pure.

Source: the vendor's pages on gateways and child devices (see events.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gatewayd.testing.simulator.huawei import events
from gatewayd.testing.simulator.huawei.events import Malformed

_NEW = {"node_id", "product_id", "device_id", "parent_device_id", "name", "description"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One device of a request.

    device_id: of whom; in a request to add, what it is to be.
    named: how it is named in a failure.  fields: what was sent.
    """

    device_id: str
    named: Mapping[str, object]
    fields: Mapping[str, object]


def read(event_type: str, paras: Mapping[str, object]) -> tuple[Entry, ...]:
    """Read the devices of a request.  Raises Malformed."""
    key = "device_statuses" if event_type == events.STATUS else "devices"
    listed = paras.get(key)
    if not isinstance(listed, list) or not listed:
        raise Malformed
    return tuple(_READERS[event_type](one) for one in listed)


def _new(one: object) -> Entry:
    """Read a child to add.  One of the vendor's SDKs sends empty texts for what is missing."""
    if not isinstance(one, dict):
        raise Malformed
    given = {name: value for name, value in one.items() if value not in ("", None)}
    texts = [given[name] for name in _NEW & set(given)]
    if not {"node_id", "product_id"} <= set(given) or not all(isinstance(t, str) for t in texts):
        raise Malformed
    named = {name: given[name] for name in ("node_id", "product_id")}
    own = str(given.get("device_id") or f"{given['product_id']}_{given['node_id']}")
    return Entry(own, named, given)


def _listed(one: object) -> Entry:
    if not isinstance(one, str):
        raise Malformed
    return Entry(one, {"device_id": one}, {})


def _reported(one: object) -> Entry:
    match one:
        case {"device_id": str(device_id), "status": str(status)}:
            return Entry(device_id, {"device_id": device_id}, {"status": status})
    raise Malformed


_READERS: Mapping[str, Callable[[object], Entry]] = {
    events.ADD: _new,
    events.DELETE: _listed,
    events.STATUS: _reported,
}
