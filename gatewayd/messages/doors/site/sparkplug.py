"""Sparkplug B: the metrics of a payload, and the names that a birth gives to aliases.  Pure.

The payload is Protocol Buffers of a fixed schema, of which a door needs a few fields.

Sources: Eclipse Sparkplug Specification 3.0.0, chapters 4 (topics), 6 (payloads), and the schema
sparkplug_b.proto in 6.4.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from gatewayd.messages.doors.site.values import Scalar, milliseconds, scalar
from gatewayd.network.protobuf import BadProtobuf, fields

MAX_METRICS = 2000
"""Metrics of one payload."""
MAX_PAYLOAD = 256 * 1024
"""Bytes of a payload that is read."""
MAX_NODES = 256
"""Edge nodes whose births are remembered; the one that was born first is forgotten."""
MAX_ALIASES = 10_000
"""Aliases of one edge node."""

_DATA, _BIRTH = ("NDATA", "DDATA"), ("NBIRTH", "DBIRTH")
_LEVELS = (4, 5)  # namespace, group, type, edge node, and for a device its name

_TIMESTAMP, _METRICS = 1, 2
_NAME, _ALIAS, _DATATYPE, _IS_NULL = 1, 2, 4, 7
_INT, _LONG, _FLOAT, _DOUBLE, _BOOLEAN, _STRING = 10, 11, 12, 13, 14, 15
_SIGNED: Mapping[int, int] = {1: 8, 2: 16, 3: 32, 4: 64}
"""Bits of the signed integers, by their datatype; they are sent as unsigned ones."""


class BadPayload(ValueError):
    """A payload is no Sparkplug payload that is read here."""


@dataclass(frozen=True, slots=True)
class _Metric:
    """A metric.  alias, datatype: None where the payload has none.  value: None for null."""

    name: str
    alias: int | None
    datatype: int | None
    value: Scalar | None


class SparkplugNodes:
    """What edge nodes have said at their births, by which their later metrics are read."""

    def __init__(self) -> None:
        self._births: dict[tuple[str, str], dict[int, tuple[str, int | None]]] = {}

    def read(self, topic: str, payload: bytes) -> tuple[dict[str, Scalar], int | None] | None:
        """Return the metrics of a message by name, and its time.

        None for a topic that has no metrics, as of a death or a command.  A metric of which only
        the alias is sent, and whose birth was not received, is left out.  Raises BadPayload.
        """
        levels = topic.split("/")
        if len(levels) not in _LEVELS or levels[2] not in (*_DATA, *_BIRTH):
            return None
        if len(payload) > MAX_PAYLOAD:
            raise BadPayload("too large")
        node, kind = (levels[1], levels[3]), levels[2]
        try:
            metrics, time = _read(payload)
        except BadProtobuf as error:
            raise BadPayload(str(error)) from error
        if kind in _BIRTH:
            self._remember(node, metrics, of_node=kind == "NBIRTH")
        born = self._births.get(node, {})
        values: dict[str, Scalar] = {}
        for metric in metrics:
            name, datatype = metric.name, metric.datatype
            if metric.alias is not None and metric.alias in born:
                name = name or born[metric.alias][0]
                datatype = datatype or born[metric.alias][1]
            value = _signed(metric.value, datatype)
            if name and value is not None:
                values[name] = value
        return values, time

    def _remember(self, node: tuple[str, str], metrics: list[_Metric], *, of_node: bool) -> None:
        """Remember the aliases of a birth; that of an edge node makes all older ones void."""
        if of_node:
            self._births.pop(node, None)
        born = self._births.setdefault(node, {})
        for metric in metrics:
            if metric.alias is not None and metric.name and len(born) < MAX_ALIASES:
                born[metric.alias] = (metric.name, metric.datatype)
        if len(self._births) > MAX_NODES:
            del self._births[next(iter(self._births))]


def _signed(value: Scalar | None, datatype: int | None) -> Scalar | None:
    """Return an integer with its sign."""
    bits = _SIGNED.get(datatype or 0)
    if bits is None or not isinstance(value, int) or isinstance(value, bool):
        return scalar(value)
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _read(payload: bytes) -> tuple[list[_Metric], int | None]:
    """Return the metrics of a payload, and its time.  Raises BadPayload, BadProtobuf."""
    metrics: list[_Metric] = []
    time: int | None = None
    for number, value in fields(payload):
        if number == _METRICS and isinstance(value, bytes):
            if len(metrics) == MAX_METRICS:
                raise BadPayload("too many metrics")
            metrics.append(_metric(value))
        elif number == _TIMESTAMP:
            time = milliseconds(value)
    return metrics, time


def _metric(data: bytes) -> _Metric:
    found: dict[int, int | bytes] = dict(fields(data))
    alias, datatype = found.get(_ALIAS), found.get(_DATATYPE)
    return _Metric(
        name=_text(found.get(_NAME)) or "",
        alias=alias if isinstance(alias, int) else None,
        datatype=datatype if isinstance(datatype, int) else None,
        value=None if found.get(_IS_NULL) else _value(found),
    )


def _value(found: Mapping[int, int | bytes]) -> Scalar | None:
    """Return the value of a metric; None for a kind that is not read, as a data set."""
    for number in (_INT, _LONG):
        if isinstance(value := found.get(number), int):
            return value
    for number, form in ((_FLOAT, "<f"), (_DOUBLE, "<d")):
        value = found.get(number)
        if isinstance(value, bytes) and len(value) == struct.calcsize(form):
            (real,) = struct.unpack(form, value)
            # of a float, the digits that it has, and not those that a double would show
            return scalar(float(f"{real:.7g}") if form == "<f" else real)
    if _BOOLEAN in found:
        return bool(found[_BOOLEAN])
    return scalar(_text(found.get(_STRING)))


def _text(value: int | bytes | None) -> str | None:
    try:
        return value.decode() if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        return None
