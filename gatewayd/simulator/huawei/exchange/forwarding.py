"""The rules by which an instance forwards what devices say to servers of its owner.  No I/O.

Only what is forwarded has everything, in its order; a shadow has the newest values alone.  Of the
vendor's channels there is HTTP.  Sources: the models AddRuleReq, RoutingRuleSubject, AddActionReq
and HttpForwarding of the vendor's management SDK, and the pages on what is pushed
(api-iothub/iot_06_v5_01202 and iot_06_v5_01205).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from gatewayd.simulator.huawei import times, topics
from gatewayd.simulator.huawei.exchange.arrivals import Arrival, ArrivalKind
from gatewayd.simulator.huawei.platform import fields
from gatewayd.simulator.huawei.platform.device import HuaweiDevice
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.ids import Ids

PROPERTY, MESSAGE = "device.property", "device.message"
SUBJECTS: Mapping[str, frozenset[str]] = {
    PROPERTY: frozenset({"report"}),
    MESSAGE: frozenset({"report"}),
    "device": frozenset({"create", "delete", "update"}),
    "device.status": frozenset({"update"}),
    "device.message.status": frozenset({"update"}),
    "device.command.status": frozenset({"update"}),
    "product": frozenset({"create", "delete", "update"}),
    "batchtask": frozenset({"update"}),
}
"""Resource to its events; what is not said by devices is never forwarded here."""
_RESOURCES: Mapping[ArrivalKind, str] = {
    ArrivalKind.PROPERTIES: PROPERTY,
    ArrivalKind.MESSAGE: MESSAGE,
    ArrivalKind.CUSTOM: MESSAGE,
}
HTTP = "HTTP_FORWARDING"
MAX_RULES, MAX_ACTIONS = 100, 10
"""Rules of an instance, and actions of a rule; the vendor sells quotas."""


@dataclass(slots=True)
class RoutingRule:
    """A rule: which events of which resource are forwarded.

    record_id: the order of pages.  app_id: "" for all resource spaces.
    """

    rule_id: str
    record_id: str
    name: str | None
    description: str | None
    resource: str
    event: str
    app_id: str
    active: bool = False


@dataclass(frozen=True, slots=True)
class RuleAction:
    """What is done by a rule: a POST to this address.  record_id: the order of pages."""

    action_id: str
    record_id: str
    rule_id: str
    url: str


class RoutingRules:
    """The rules of an instance, and their actions.  Every method raises PlatformError."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self.rules: dict[str, RoutingRule] = {}
        self.actions: dict[str, RuleAction] = {}

    def create(
        self, resource: str, event: str, name: str | None, description: str | None, app_id: str
    ) -> RoutingRule:
        """Create a rule, which is not active."""
        if event not in SUBJECTS.get(resource, ()):
            raise _wrong("subject")
        if len(self.rules) >= MAX_RULES:
            raise PlatformError(IotdaCode.RULE_LIMIT)
        checked = fields.optional("device_name", name)
        ids = self._ids.code(), self._ids.record()
        rule = RoutingRule(*ids, checked, description, resource, event, app_id)
        self.rules[rule.rule_id] = rule
        return rule

    def get(self, rule_id: str) -> RoutingRule:
        """Return a rule."""
        if (rule := self.rules.get(rule_id)) is None:
            raise PlatformError(IotdaCode.UNKNOWN_RULE)
        return rule

    def delete(self, rule_id: str) -> None:
        """Delete a rule with its actions."""
        del self.rules[self.get(rule_id).rule_id]
        self.actions = {
            one.action_id: one for one in self.actions.values() if one.rule_id != rule_id
        }

    def activate(self, rule_id: str, *, active: bool) -> RoutingRule:
        """Have a rule forward, or not; one without an action cannot."""
        rule = self.get(rule_id)
        if active and not any(self.of(rule)):
            raise PlatformError(IotdaCode.RULE_WITHOUT_ACTION)
        rule.active = active
        return rule

    def act(self, rule_id: str, channel: str, url: str) -> RuleAction:
        """Give a rule an action."""
        rule = self.get(rule_id)
        if channel != HTTP:
            raise PlatformError(IotdaCode.NOT_OFFERED, f"({channel})")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _wrong("url")
        if len([*self.of(rule)]) >= MAX_ACTIONS:
            raise PlatformError(IotdaCode.RULE_LIMIT)
        action = RuleAction(self._ids.code(), self._ids.record(), rule.rule_id, url)
        self.actions[action.action_id] = action
        return action

    def action(self, action_id: str) -> RuleAction:
        """Return an action."""
        if (action := self.actions.get(action_id)) is None:
            raise PlatformError(IotdaCode.UNKNOWN_RULE)
        return action

    def cease(self, action_id: str) -> None:
        """Delete an action."""
        del self.actions[self.action(action_id).action_id]

    def of(self, rule: RoutingRule) -> Iterator[RuleAction]:
        """Yield the actions of a rule."""
        return (one for one in self.actions.values() if one.rule_id == rule.rule_id)

    def targets(self, arrival: Arrival, app_id: str) -> Sequence[RuleAction]:
        """Return where something is forwarded to.  app_id: that of its device."""
        resource = _RESOURCES.get(arrival.kind, "")
        rules = (
            rule
            for rule in self.rules.values()
            if rule.active and rule.resource == resource and rule.app_id in ("", app_id)
        )
        return [action for rule in rules for action in self.of(rule)]


def notification(
    arrival: Arrival, device: HuaweiDevice, now: float, request_id: str
) -> dict[str, object]:
    """Return what is pushed of something that a device has said."""
    header = {
        "app_id": device.app_id,
        "device_id": device.device_id,
        "node_id": device.node_id,
        "product_id": device.product_id,
        "gateway_id": device.gateway_id,
        "tags": [],
    }
    return {
        "resource": _RESOURCES[arrival.kind],
        "event": "report",
        "event_time": times.basic(now),
        "event_time_ms": times.dashed(now),
        "request_id": request_id,
        "notify_data": {"header": header, "body": _body(arrival, device)},
    }


def _body(arrival: Arrival, device: HuaweiDevice) -> dict[str, object]:
    if not isinstance(arrival.body, bytes):
        when = arrival.event_time or times.basic(arrival.when)
        one = {"service_id": arrival.about, "properties": arrival.body, "event_time": when}
        return {"services": [one]}
    own = topics.system(device.gateway_id, "messages/up")
    return {"topic": arrival.about or own, "content": _content(arrival.body)}


def _content(payload: bytes) -> object:
    """Return a message as JSON, or else as text."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload.decode(errors="replace")


def _wrong(name: str) -> PlatformError:
    return PlatformError(IotdaCode.INVALID_INPUT, f"({name})")
