"""Reports of devices at the simulated Alibaba cloud: properties, events, history, and packs.

Sources: the vendor's page "Device properties, events, and services" (help.aliyun.com/
document_detail/89301), and its table of codes (120329).  A report is checked against the model of
its product; what fits is kept although the rest does not, and the reply names the faults.
"""

from __future__ import annotations

import base64
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gatewayd.simulator.alibaba.alink import AlinkCode, AlinkFailure, AlinkRequest
from gatewayd.simulator.alibaba.devices import Name
from gatewayd.simulator.alibaba.thing import specification
from gatewayd.simulator.alibaba.thing.specification import ThingModel

PROPERTIES = "thing.event.property.post"
HISTORY, PACK = "thing.event.property.history.post", "thing.event.property.pack.post"
BATCH = "thing.event.property.batch.post"
INFO = frozenset({"thing.deviceinfo.update", "thing.deviceinfo.delete"})
"""Reports of tags, which are not checked against the model."""

MAX_PROPERTIES, MAX_EVENTS, MAX_SUB_DEVICES = 200, 20, 20
"""In one report."""
MAX_AHEAD = 24 * 3600 * 1000
"""Milliseconds that a report may lie in the future."""
_EVENT = re.compile(r"thing\.event\.(?P<event>[A-Za-z0-9_:]{1,100})\.post")

Values: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Report:
    """What one device reported.

    method: of the request.  values: by identifier, without those at fault.
    times: of the values of properties, or of an event, milliseconds since the epoch: as they were
    sent, or else that of their arrival.
    payload: of a message that is passed on as it is; None for one in the format of Alink.
    """

    method: str
    values: Values
    faults: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)
    payload: bytes | None = None

    def shown(self) -> dict[str, object]:
        """Return it for JSON; a payload in base64."""
        shown: dict[str, object] = {
            "method": self.method,
            "values": self.values,
            "faults": self.faults,
            "times": self.times,
        }
        if self.payload is not None:
            shown["payload"] = base64.b64encode(self.payload).decode()
        return shown


def is_report(method: str) -> bool:
    """Whether a request is a report."""
    several = method in (HISTORY, PACK, BATCH)
    return several or method in INFO or _EVENT.fullmatch(method) is not None


def named(params: object) -> tuple[str, ...]:
    """Return the names of the devices that a report is about, besides its sender."""
    parts = params.get("subDevices") if isinstance(params, dict) else params
    listed = parts if isinstance(parts, list) else []
    found = [one.get("identity") for one in listed if isinstance(one, dict)]
    names = [one.get("deviceName") for one in found if isinstance(one, dict)]
    return tuple(one for one in names if isinstance(one, str))


class ThingReports:
    """The receiver of reports.

    model_of: returns the model of a product.  represents: whether a device may report for another.
    now: milliseconds since the epoch.  kept: the newest reports of a device that are kept.
    """

    def __init__(
        self,
        model_of: Callable[[str], ThingModel],
        represents: Callable[[Name, Name], bool],
        now: Callable[[], float],
        kept: int,
    ) -> None:
        self._model_of, self._represents, self._now = model_of, represents, now
        self._kept = kept
        self._reports: dict[Name, deque[Report]] = {}
        self._came: Counter[Name] = Counter()

    def of(self, device: Name) -> tuple[Report, ...]:
        """Return the newest reports of a device, the newest last."""
        return tuple(self._reports.get(device, ()))

    def since(self, device: Name, skip: int) -> tuple[Report, ...]:
        """Return the reports of a device but the first `skip`.

        Raises ValueError where there were more than are kept.
        """
        kept = self.of(device)
        first = self._came[device] - len(kept)
        if skip < first:
            raise ValueError(f"of {self._came[device]} reports, the first {first} are not kept")
        return kept[skip - first :]

    def truth(self, device: Name) -> dict[str, object]:
        """Return how many reports are kept, and the faults in them, for JSON."""
        kept = self.of(device)
        faults: dict[str, str] = {}
        for report in kept:
            faults |= report.faults
        return {"reports": len(kept), "misfits": faults}

    def pass_on(self, device: Name, method: str, payload: bytes) -> None:
        """Keep a message that no model describes: of a custom topic, or for a parsing script."""
        self._keep(device, Report(method, {}, payload=payload))

    def forget(self, device: Name) -> None:
        """Remove the reports of a deleted device."""
        self._reports.pop(device, None)
        self._came.pop(device, None)

    def answer(self, device: Name, method: str, request: AlinkRequest) -> object:
        """Receive a report; return the data of its reply.  Raises AlinkFailure."""
        if not request.method:
            raise AlinkFailure(AlinkCode.METHOD_MISSING)
        if method in INFO:
            return self._tags(device, method, request.params)
        if method == PROPERTIES:
            return self.properties(device, _mapping(request.params))
        if method == HISTORY:
            return self._history(device, method, request.params)
        if method == PACK:
            return self._pack(device, method, _mapping(request.params))
        if method == BATCH:
            return self._batch(device, method, _mapping(request.params))
        found = _EVENT.fullmatch(method)
        assert found is not None, "is_report() said so"
        return self._event(device, method, found["event"], request.params)

    def _tags(self, device: Name, method: str, params: object) -> object:
        if not isinstance(params, list) or not all(
            isinstance(one, dict) and isinstance(one.get("attrKey"), str) for one in params
        ):
            raise AlinkFailure(AlinkCode.BAD_PARAMETER)
        tags = {one["attrKey"]: one.get("attrValue") for one in params}
        self._keep(device, Report(method, tags))
        return {}

    def properties(
        self, device: Name, values: Values, method: str = PROPERTIES
    ) -> Mapping[str, str]:
        """Keep properties that a device reports; return the faults of those that do not fit.

        method: of the request that they are in.  Raises AlinkFailure.
        """
        if len(values) > MAX_PROPERTIES:
            raise AlinkFailure(AlinkCode.TOO_MANY_PROPERTIES)
        faults = specification.faults(self._model_of(device[0]).properties, _plain(values))
        faults |= dict.fromkeys(self._ahead(values), "tsl parse: time is ahead")
        fitting = {name: one for name, one in _plain(values).items() if name not in faults}
        times = {name: _time(values[name], self._now()) for name in fitting}
        self._keep(device, Report(method, fitting, faults, times))
        return faults

    def _event(self, device: Name, method: str, event: str, params: object) -> object:
        body = _mapping(params)
        types = self._model_of(device[0]).events.get(event)
        if types is None:
            self._keep(device, Report(method, {}, {event: specification.UNKNOWN}))
            raise AlinkFailure(AlinkCode.EVENT_NOT_FOUND)
        values = _mapping(body.get("value", body))
        faults = specification.faults(types, values)
        if faults or any(self._ahead({event: params})):
            self._keep(device, Report(method, {}, faults))
            raise AlinkFailure(AlinkCode.BAD_PARAMETER)
        self._keep(device, Report(method, values, {}, {event: _time_of(body, self._now())}))
        return {}

    def _history(self, device: Name, method: str, params: object) -> object:
        """Receive earlier values: lists of properties and events, by device."""
        entries = params if isinstance(params, list) else []
        if not entries:
            raise AlinkFailure(AlinkCode.BAD_PARAMETER)
        for entry in entries:
            body = _mapping(entry)
            owner = self._identity(device, body)
            for values in _list_of(body.get("properties")):
                self.properties(owner, values, method)
            for events in _list_of(body.get("events")):
                self._events(owner, method, events)
        return {}

    def _pack(self, device: Name, method: str, params: Values) -> object:
        """Receive values of a gateway, and of its sub-devices."""
        children = _list_of(params.get("subDevices"))
        if len(children) > MAX_SUB_DEVICES:
            raise AlinkFailure(AlinkCode.TOO_MANY_REPORTING)
        owners = [device, *(self._identity(device, child) for child in children)]
        for owner, body in zip(owners, [params, *children], strict=True):
            if properties := _mapping(body.get("properties", {})):
                self.properties(owner, properties, method)
            self._events(owner, method, _mapping(body.get("events", {})))
        return {}

    def _batch(self, device: Name, method: str, params: Values) -> object:
        """Receive several values of each property, and several of each event."""
        properties = _mapping(params.get("properties", {}))
        events = _mapping(params.get("events", {}))
        values = [(name, one) for name, some in properties.items() for one in _list_of(some)]
        raised = [(name, one) for name, some in events.items() for one in _list_of(some)]
        if len(values) > MAX_PROPERTIES:
            raise AlinkFailure(AlinkCode.TOO_MANY_PROPERTIES)
        if len(raised) > MAX_EVENTS:
            raise AlinkFailure(AlinkCode.TOO_MANY_EVENTS)
        faults: dict[str, str] = {}
        for name, one in values:
            faults |= self.properties(device, {name: one}, method)
        for event, one in raised:
            self._event(device, method, event, one)
        return faults

    def _events(self, device: Name, method: str, events: Values) -> None:
        if len(events) > MAX_EVENTS:
            raise AlinkFailure(AlinkCode.TOO_MANY_EVENTS)
        for event, params in events.items():
            self._event(device, method, event, params)

    def _identity(self, device: Name, body: Values) -> Name:
        """Return the device that a part of a report is about.  Raises AlinkFailure."""
        identity = _mapping(body.get("identity"))
        owner = identity.get("productKey"), identity.get("deviceName")
        if not isinstance(owner[0], str) or not isinstance(owner[1], str):
            raise AlinkFailure(AlinkCode.BAD_PARAMETER)
        named = owner[0], owner[1]
        if named != device and not self._represents(device, named):
            raise AlinkFailure(AlinkCode.NO_TOPOLOGY)
        return named

    def _ahead(self, values: Values) -> Iterator[str]:
        for name, one in values.items():
            time = one.get("time") if isinstance(one, dict) else None
            if isinstance(time, int | float) and time > self._now() + MAX_AHEAD:
                yield name

    def _keep(self, device: Name, report: Report) -> None:
        self._reports.setdefault(device, deque(maxlen=self._kept)).append(report)
        self._came[device] += 1


def _plain(values: Values) -> dict[str, object]:
    """Return values without their times: a property stands bare, or as `value` and `time`."""
    return {
        name: one["value"]
        if isinstance(one, dict) and "value" in one and one.keys() <= _TIMED
        else one
        for name, one in values.items()
    }


def _time(value: object, now: float) -> float:
    """Return the time of a property's value, as `_plain` reads it; now if it has none."""
    timed = isinstance(value, dict) and "value" in value and value.keys() <= _TIMED
    return _time_of(value, now) if timed and isinstance(value, dict) else now


def _time_of(body: Values, now: float) -> float:
    time = body.get("time")
    return time if isinstance(time, int | float) else now


_TIMED = frozenset({"value", "time"})


def _mapping(params: object) -> Values:
    """Read an object.  Raises AlinkFailure."""
    if not isinstance(params, dict):
        raise AlinkFailure(AlinkCode.BAD_PARAMETER)
    return params


def _list_of(params: object) -> list[Values]:
    """Read a list of objects, which may be left out.  Raises AlinkFailure."""
    if params is None:
        return []
    if not isinstance(params, list):
        raise AlinkFailure(AlinkCode.BAD_PARAMETER)
    return [_mapping(one) for one in params]
