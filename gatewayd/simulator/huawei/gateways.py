"""Gateways of a Huawei instance: their requests, and the notifications of changed children.

Changes of a gateway's children have versions.  Sources: the vendor's pages on gateways and child
devices (see events.py), on synchronization and notifications (api-iothub/iot_06_v5_3019 to 3021).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

from gatewayd.simulator import faults
from gatewayd.simulator.faults import FaultPlan, SimulatedFault
from gatewayd.simulator.huawei import events, sub_devices, times, topics
from gatewayd.simulator.huawei.broker import HuaweiBroker
from gatewayd.simulator.huawei.events import HuaweiEvent, MalformedEvent
from gatewayd.simulator.huawei.ledger import HuaweiLedgers
from gatewayd.simulator.huawei.options import HuaweiRules
from gatewayd.simulator.huawei.platform.device import HuaweiDevice, HuaweiDeviceStatus
from gatewayd.simulator.huawei.platform.ids import Ids
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.sub_devices import SubDeviceRequests
from gatewayd.simulator.mqtt import delivery as mqtt_delivery

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChildChange:
    """A child was added or deleted.  child: parent_device_id, node_id, device_id."""

    version: int
    added: bool
    child: tuple[str, str, str]


@dataclass(slots=True)
class ChildChanges:
    """The changes of one gateway's children; the newest of each child counts.

    version: of the newest.  kept: the number of changes remembered.
    """

    kept: int
    version: int = 0
    _newest: dict[str, ChildChange] = field(default_factory=dict)
    _order: deque[ChildChange] = field(default_factory=deque)
    _forgotten: int = 0

    def note(self, child: tuple[str, str, str], *, added: bool) -> ChildChange:
        """Add a change, with the next version."""
        self.version += 1
        change = ChildChange(self.version, added, child)
        self._newest[child[2]] = change
        self._order.append(change)
        if len(self._order) > self.kept:
            self._forget(self._order.popleft())
        return change

    def later(self, version: int) -> tuple[ChildChange, ...] | None:
        """Return the changes after a version, oldest first; None if they are forgotten."""
        if not self._forgotten <= version <= self.version:
            return None
        newest = self._newest
        return tuple(
            change
            for change in self._order
            if change.version > version and newest[change.child[2]] is change
        )

    def of(self, device_id: str) -> int:
        """Return the version of a child's newest change; 0 if that is forgotten."""
        change = self._newest.get(device_id)
        return change.version if change else 0

    def _forget(self, change: ChildChange) -> None:
        self._forgotten = change.version
        if self._newest.get(change.child[2]) is change:
            del self._newest[change.child[2]]


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the items in parts of a size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


Notification: TypeAlias = tuple[str, Sequence[object], int]
"""Name, children, and version of a notification."""


class HuaweiGateways:
    """The server of gateways: it answers their requests, and notifies them.

    appeared: called with each child that is reported online.
    said: called with each event of a service that is not the platform's own.
    """

    def __init__(
        self,
        instance: IotdaInstance,
        plan: FaultPlan,
        rules: HuaweiRules,
        ids: Ids,
        broker: HuaweiBroker,
        ledgers: HuaweiLedgers,
    ) -> None:
        self.appeared: Callable[[HuaweiDevice], None] = lambda _: None
        self.said: Callable[[HuaweiDevice, HuaweiEvent], None] = lambda _device, _event: None
        self._instance, self._plan, self._rules, self._ids = instance, plan, rules, ids
        self._broker, self._ledgers = broker, ledgers
        self._children = SubDeviceRequests(instance, rules, ids.clock, self._reported)
        self._changes: dict[str, ChildChanges] = {}
        self._acting = ""

    def version(self, gateway_id: str) -> int:
        """Return the version of a gateway's children."""
        changes = self._changes.get(gateway_id)
        return changes.version if changes else 0

    def publish(self, device: HuaweiDevice, payload: bytes) -> None:
        """Handle a message of events."""
        gateway_id = device.device_id
        ledger = self._ledgers.gateway(gateway_id)
        try:
            found = events.read(payload)
        except MalformedEvent:
            ledger.malformed += 1
            return
        for event in found:
            if event.managing and event.event_type in events.REQUESTS:
                self._take(gateway_id, event)
            elif (event.service_id, event.event_type) == (events.TIME, events.TIME_REQUEST):
                self._answer_time(gateway_id, event)
            elif event.managing or event.service_id.startswith("$"):
                ledger.ignored += 1
            else:
                self.said(device, event)

    def added(self, device: HuaweiDevice) -> None:
        """Notify a gateway of a new child."""
        if device.direct:
            return
        gateway_id = self._instance.devices.gateway_of(device).device_id
        change = self._of(gateway_id).note(_child(device), added=True)
        self._notify(gateway_id, [change])

    def removed(self, device: HuaweiDevice) -> None:
        """Notify a gateway of a child that it loses."""
        if device.direct:
            self._changes.pop(device.device_id, None)
            return
        gateway_id = self._instance.devices.gateway_of(device).device_id
        change = self._of(gateway_id).note(_child(device), added=False)
        self._notify(gateway_id, [change])

    def _of(self, gateway_id: str) -> ChildChanges:
        return self._changes.setdefault(gateway_id, ChildChanges(self._rules.remembered))

    def _reported(self, device: HuaweiDevice, status: HuaweiDeviceStatus) -> None:
        self._ledgers.of(device.device_id).reports[status] += 1
        if status is HuaweiDeviceStatus.ONLINE:
            self.appeared(device)

    def _take(self, gateway_id: str, event: HuaweiEvent) -> None:
        """Answer a request, unless a fault strikes."""
        ledger = self._ledgers.gateway(gateway_id)
        ledger.requests[event.event_type] += 1
        try:
            if event.event_type == events.SYNC:
                self._synchronize(gateway_id, event.paras.get("version"))
            else:
                self._answer(gateway_id, event)
        except MalformedEvent:
            ledger.malformed += 1

    def _answer(self, gateway_id: str, event: HuaweiEvent) -> None:
        """Perform a request, and respond.  Raises MalformedEvent."""
        name = event.event_type
        requested = sub_devices.read(name, event.paras)
        fault = self._choose(gateway_id, name, [one.device_id for one in requested])
        if fault and fault.name == "lose-request":
            return

        def spoiled(device_id: str) -> str:
            wished = self._plan.choose(name, device_id, faults.PARTIAL)
            struck = fault if fault and fault.name == "reply" else wished
            return f"IOTDA.{int(struck.number):06}" if struck else ""

        with self._act(gateway_id):
            answer = self._children.answer(gateway_id, name, requested, spoiled)
        if answer is None:
            raise MalformedEvent
        self._ledgers.gateway(gateway_id).answers[name].update(answer.codes)
        old = self._rules.old_status_event and name == events.STATUS
        event_id = event.event_id or self._ids.code()
        said = name if old else events.RESPONSES[name]
        self._send(gateway_id, said, answer.paras, fault, event_id)

    def _answer_time(self, device_id: str, event: HuaweiEvent) -> None:
        now = self._ids.clock()
        paras = events.time_response(event.paras, now)
        body = events.message(
            device_id, events.TIME_RESPONSE, times.basic(now), paras, service_id=events.TIME
        )
        self._broker.send(device_id, topics.events_down(device_id), mqtt_delivery.encode(body))

    def _synchronize(self, gateway_id: str, version: object) -> None:
        """Notify a gateway of the changes since a version, or of all its children."""
        if isinstance(version, bool) or not isinstance(version, int | None):
            raise MalformedEvent
        fault = self._choose(gateway_id, events.SYNC, ())
        if fault and fault.name in ("lose-request", "reply"):
            return
        changes = self._of(gateway_id)
        later = None if version is None else changes.later(version)
        found = [*(self._all(gateway_id) if later is None else self._since(later))]
        if not found and self._rules.nothing_new:
            found = [(events.ADDED, [], changes.version)]
        for at, (name, children, reached) in enumerate(found, start=1):
            newest = changes.version if at == len(found) else reached
            paras = {"devices": children, "version": newest}
            self._send(gateway_id, name, paras, fault)

    def _all(self, gateway_id: str) -> Iterator[Notification]:
        """Yield notifications of all children, in the order of their addition."""
        changes, devices = self._of(gateway_id), self._instance.devices
        descendants = sorted(
            devices.descendants(gateway_id), key=lambda one: changes.of(one.device_id)
        )
        for part in parts(descendants, self._rules.notified):
            infos = [self._children.info(one) for one in part]
            yield events.ADDED, infos, changes.of(part[-1].device_id)

    def _since(self, later: Sequence[ChildChange]) -> Iterator[Notification]:
        """Yield notifications of changes, in their order."""
        for added, run in itertools.groupby(later, key=lambda one: one.added):
            for part in parts([*run], self._rules.notified):
                name = events.ADDED if added else events.DELETED
                yield name, [self._describe(one) for one in part], part[-1].version

    def _describe(self, change: ChildChange) -> object:
        if change.added:
            return self._children.info(self._instance.devices.get(change.child[2]))
        return dict(zip(("parent_device_id", "node_id", "device_id"), change.child, strict=True))

    def _notify(self, gateway_id: str, changes: Sequence[ChildChange]) -> None:
        """Notify a gateway of changes; the notification is lost if it is offline."""
        if gateway_id == self._acting and not self._rules.own_changes:
            return
        for name, children, version in self._since(changes):
            self._send(gateway_id, name, {"devices": children, "version": version}, None)

    def _send(
        self,
        gateway_id: str,
        name: str,
        paras: Mapping[str, object],
        fault: SimulatedFault | None,
        event_id: str = "",
    ) -> None:
        now, connection = times.basic(self._ids.clock()), self._broker.of(gateway_id)
        body = events.message(gateway_id, name, now, paras, event_id)
        delivery = mqtt_delivery.deliver(body, fault, _in_company)
        if event_id:  # a response; notifications are not delayed
            delivery = replace(delivery, after=delivery.after + self._rules.delay)
        topic, ledger = topics.events_down(gateway_id), self._ledgers.gateway(gateway_id)
        sent = connection is not None and connection.sender.deliver(topic, delivery)
        (ledger.pushed if sent else ledger.undelivered)[name] += 1

    def _choose(self, gateway_id: str, name: str, about: Sequence[str]) -> SimulatedFault | None:
        fault = self._plan.choose(name, gateway_id, faults.WHOLE, about)
        if fault:
            self._ledgers.of(gateway_id).faults[fault.name] += 1
        return fault

    @contextmanager
    def _act(self, gateway_id: str) -> Iterator[None]:
        """Mark the changes in the context as a gateway's own."""
        self._acting = gateway_id
        try:
            yield
        finally:
            self._acting = ""


def _child(device: HuaweiDevice) -> tuple[str, str, str]:
    return device.gateway_id, device.node_id, device.device_id


def _in_company(body: Mapping[str, object]) -> Mapping[str, object]:
    """Add unknown events before an event."""
    services = body["services"]
    assert isinstance(services, list), "as events.message makes it"
    stranger = {"service_id": "$unheard_of", "event_type": "unheard_of", "paras": {}}
    unknown = {**services[0], "event_type": "unheard_of"}
    return {**body, "services": [stranger, unknown, *services]}
