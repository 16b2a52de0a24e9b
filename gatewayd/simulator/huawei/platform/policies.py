"""The device policies of a Huawei instance: publishing and subscribing to custom topics.  No I/O.

System topics are never governed.  Sources: the vendor's pages on device policies and wildcards
(usermanual-iothub/iot_01_1111, 1112, 1114), its API CreateDevicePolicy and its model Statement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gatewayd.simulator.huawei.platform import fields
from gatewayd.simulator.huawei.platform.device import HuaweiDevice
from gatewayd.simulator.huawei.platform.devices import DeviceIndex
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.ids import Ids
from gatewayd.simulator.huawei.platform.limits import InstanceLimits
from gatewayd.simulator.huawei.platform.resource_spaces import (
    HuaweiProducts,
    ResourceSpace,
    ResourceSpaces,
)

ACTIONS = ("iotda:devices:publish", "iotda:devices:subscribe")
EVERYTHING = [{"effect": "ALLOW", "actions": [*ACTIONS], "resources": ["topic:*"]}]
"""The default policy of a resource space."""

MAX_DOCUMENT, MAX_STATEMENTS, MAX_RESOURCES = 10_240, 10, 10
_DEVICE, _WILD = "${devices.deviceId}", {"*": ".*", "?": "."}


@dataclass(frozen=True, slots=True)
class Statement:
    """One rule.  effect: ALLOW or DENY."""

    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]

    def concerns(self, device_id: str, action: str, topic: str) -> bool:
        """Whether the rule applies.  action: publish or subscribe."""
        return f"iotda:devices:{action}" in self.actions and any(
            _pattern(one, device_id).fullmatch(topic) for one in self.resources
        )


def read(document: object) -> tuple[Statement, ...]:
    """Read a policy's document, as JSON has it.  Raises PlatformError."""
    size = len(json.dumps(document, separators=(",", ":")).encode())
    if not isinstance(document, list) or not 1 <= len(document) <= MAX_STATEMENTS:
        raise PlatformError(IotdaCode.INVALID_INPUT, "(statement)")
    if size > MAX_DOCUMENT:
        raise PlatformError(IotdaCode.INVALID_INPUT, "(statement)")
    return tuple(_statement(one) for one in document)


def _statement(one: object) -> Statement:
    match one:
        case {"effect": "ALLOW" | "DENY" as effect, "actions": [*actions], "resources": [*topics]}:
            known = len(actions) > 0 and all(action in ACTIONS for action in actions)
            if known and 1 <= len(topics) <= MAX_RESOURCES:
                checked = tuple(fields.check("resource", topic) for topic in topics)
                return Statement(effect, tuple(actions), checked)
    raise PlatformError(IotdaCode.INVALID_INPUT, "(statement)")


def _pattern(resource: str, device_id: str) -> re.Pattern[str]:
    """Compile a resource: `*` is any text, `?` one character; `+` and `#` of MQTT are literal."""
    topic = resource.removeprefix("topic:").replace(_DEVICE, device_id)
    parts = re.split(r"([*?])", topic)
    return re.compile("".join(_WILD.get(part) or re.escape(part) for part in parts))


Target: TypeAlias = tuple[str, str]
"""device, product or app, and an id."""

DEFAULT_NAME = "system_default_policy"


@dataclass(slots=True)
class DevicePolicy:
    """A policy.  created, updated: seconds since 1970."""

    policy_id: str
    name: str
    app_id: str
    statements: tuple[Statement, ...]
    created: float
    updated: float
    targets: dict[Target, None] = field(default_factory=dict)

    @property
    def record_id(self) -> str:
        """The order of pages."""
        return self.policy_id


class DevicePolicies:
    """Policies.  Every method raises PlatformError."""

    def __init__(
        self,
        ids: Ids,
        apps: ResourceSpaces,
        products: HuaweiProducts,
        devices: DeviceIndex,
        limits: InstanceLimits,
    ) -> None:
        self._ids, self._apps, self._products, self._devices = ids, apps, products, devices
        self._limits = limits
        self._policies: dict[str, DevicePolicy] = {}

    def open(self, app: ResourceSpace) -> None:
        """Give a new resource space its default policy, which allows everything."""
        policy = self._make(DEFAULT_NAME, read(EVERYTHING), app.app_id)
        policy.targets = {("app", "*"): None}

    def create(self, name: str, statement: object, app_id: str | None = None) -> DevicePolicy:
        """Create one, bound to nothing.  statement: as JSON has it."""
        app = self._apps.find(app_id)
        if sum(one.name != DEFAULT_NAME for one in self._policies.values()) >= (
            self._limits.policies
        ):
            raise PlatformError(IotdaCode.POLICY_LIMIT)
        if any((one.name, one.app_id) == (name, app.app_id) for one in self._policies.values()):
            raise PlatformError(IotdaCode.POLICY_EXISTS)
        return self._make(fields.check("policy_name", name), read(statement), app.app_id)

    def get(self, policy_id: str) -> DevicePolicy:
        """Return one."""
        if policy := self._policies.get(policy_id):
            return policy
        raise PlatformError(IotdaCode.UNKNOWN_POLICY)

    def known(self, policy_id: str) -> bool:
        """Whether there is one of this id."""
        return policy_id in self._policies

    def list(self, app_id: str | None = None, name: str | None = None) -> Sequence[DevicePolicy]:
        """Return those of a resource space and a name, the newest first."""
        return [
            one
            for one in reversed(self._policies.values())
            if app_id in (None, one.app_id) and name in (None, one.name)
        ]

    def update(self, policy_id: str, changes: Mapping[str, object]) -> DevicePolicy:
        """Change policy_name and statement."""
        policy = self.get(policy_id)
        if unknown := set(changes) - {"policy_name", "statement"}:
            raise PlatformError(IotdaCode.INVALID_INPUT, f"({', '.join(sorted(unknown))})")
        name = fields.check("policy_name", changes.get("policy_name", policy.name))
        if "statement" in changes:
            policy.statements = read(changes["statement"])
        policy.name, policy.updated = name, self._ids.clock()
        return policy

    def delete(self, policy_id: str) -> None:
        """Delete one, with what it is bound to."""
        self.get(policy_id)
        del self._policies[policy_id]

    def empty(self, app_id: str) -> None:
        """Delete those of a resource space."""
        for policy in self.list(app_id):
            del self._policies[policy.policy_id]

    def bind(
        self, policy_id: str, target_type: str, target_ids: Iterable[str]
    ) -> Sequence[tuple[str, PlatformError]]:
        """Bind one; return the targets that fail, and why."""
        policy, failures = self.get(policy_id), list[tuple[str, PlatformError]]()
        for target in target_ids:
            if (target_type, target) in policy.targets:
                continue
            try:
                self._check_target((target_type, target))
            except PlatformError as error:
                failures.append((target, error))
            else:
                policy.targets[target_type, target] = None
        return failures

    def unbind(
        self, policy_id: str, target_type: str, target_ids: Iterable[str]
    ) -> Sequence[tuple[str, PlatformError]]:
        """Unbind one; return the targets that it was not bound to."""
        policy, failures = self.get(policy_id), list[tuple[str, PlatformError]]()
        for target in target_ids:
            if (target_type, target) not in policy.targets:
                failures.append((target, PlatformError(IotdaCode.INVALID_INPUT)))
            policy.targets.pop((target_type, target), None)
        return failures

    def targets(
        self, policy_id: str, target_type: str | None = None, target_id: str | None = None
    ) -> Sequence[Target]:
        """Return what one is bound to."""
        return [
            (kind, target)
            for kind, target in self.get(policy_id).targets
            if target_type in (None, kind) and target_id in (None, target)
        ]

    def forget_device(self, device_id: str) -> None:
        """Unbind a deleted device."""
        for policy in self._policies.values():
            policy.targets.pop(("device", device_id), None)

    def allows(self, device: HuaweiDevice, action: str, topic: str) -> bool:
        """Whether a device may publish or subscribe to a custom topic: DENY wins."""
        mine = {
            ("device", device.device_id),
            ("product", device.product_id),
            ("app", device.app_id),
            ("app", "*"),
        }
        effects = {
            statement.effect
            for policy in self._policies.values()
            if not mine.isdisjoint(policy.targets)
            for statement in policy.statements
            if statement.concerns(device.device_id, action, topic)
        }
        return effects == {"ALLOW"}

    def _make(self, name: str, rules: tuple[Statement, ...], app_id: str) -> DevicePolicy:
        now = self._ids.clock()
        policy = DevicePolicy(self._ids.record(), name, app_id, rules, now, now)
        self._policies[policy.policy_id] = policy
        return policy

    def _check_target(self, target: Target) -> None:
        kind, name = target
        if kind == "device":
            self._devices.get(name)
        elif kind == "product":
            self._products.get(name)
        elif kind == "app":
            self._apps.get(name)
        else:
            raise PlatformError(IotdaCode.INVALID_INPUT, "(target_type)")
        bound = sum(target in one.targets for one in self._policies.values())
        if bound >= self._limits.policies_per_target:
            raise PlatformError(IotdaCode.POLICY_LIMIT)
