"""The device policies of a Huawei instance: who may publish and subscribe to which custom topics.

Sources: the vendor's pages on device policies (usermanual-iothub/iot_01_1111, 1112, 1114) and its
API CreateDevicePolicy.  System topics are never governed.  No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gatewayd.testing.simulator.huawei import fields, statements
from gatewayd.testing.simulator.huawei.errors import Code, PlatformError
from gatewayd.testing.simulator.huawei.ids import Ids
from gatewayd.testing.simulator.huawei.limits import Limits
from gatewayd.testing.simulator.huawei.shelf import Shelf
from gatewayd.testing.simulator.huawei.spaces import App, Apps, Products
from gatewayd.testing.simulator.huawei.statements import Statement
from gatewayd.testing.simulator.huawei.things import Device

Target: TypeAlias = tuple[str, str]
"""device, product or app, and an id."""

DEFAULT_NAME = "system_default_policy"


@dataclass(slots=True)
class Policy:
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
        """What pages go by."""
        return self.policy_id


class Policies:
    """Policies.  Every method raises PlatformError."""

    def __init__(
        self, ids: Ids, apps: Apps, products: Products, devices: Shelf, limits: Limits
    ) -> None:
        self._ids, self._apps, self._products, self._devices = ids, apps, products, devices
        self._limits = limits
        self._policies: dict[str, Policy] = {}

    def open(self, app: App) -> None:
        """Give a new resource space its default policy, which allows everything to everybody."""
        policy = self._make(DEFAULT_NAME, statements.read(statements.EVERYTHING), app.app_id)
        policy.targets = {("app", "*"): None}

    def create(self, name: str, statement: object, app_id: str | None = None) -> Policy:
        """Create one, bound to nothing.  statement: as JSON has it."""
        app = self._apps.find(app_id)
        if sum(one.name != DEFAULT_NAME for one in self._policies.values()) >= (
            self._limits.policies
        ):
            raise PlatformError(Code.POLICY_LIMIT)
        if any((one.name, one.app_id) == (name, app.app_id) for one in self._policies.values()):
            raise PlatformError(Code.POLICY_EXISTS)
        return self._make(fields.check("policy_name", name), statements.read(statement), app.app_id)

    def get(self, policy_id: str) -> Policy:
        """Return one."""
        if policy := self._policies.get(policy_id):
            return policy
        raise PlatformError(Code.UNKNOWN_POLICY)

    def known(self, policy_id: str) -> bool:
        """Whether there is one of this id."""
        return policy_id in self._policies

    def list(self, app_id: str | None = None, name: str | None = None) -> Sequence[Policy]:
        """Return those of a resource space and a name, the newest first."""
        return [
            one
            for one in reversed(self._policies.values())
            if app_id in (None, one.app_id) and name in (None, one.name)
        ]

    def update(self, policy_id: str, changes: Mapping[str, object]) -> Policy:
        """Change policy_name and statement."""
        policy = self.get(policy_id)
        if unknown := set(changes) - {"policy_name", "statement"}:
            raise PlatformError(Code.INVALID_INPUT, f"({', '.join(sorted(unknown))})")
        name = fields.check("policy_name", changes.get("policy_name", policy.name))
        if "statement" in changes:
            policy.statements = statements.read(changes["statement"])
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
                failures.append((target, PlatformError(Code.INVALID_INPUT)))
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
        """Unbind a device that is gone."""
        for policy in self._policies.values():
            policy.targets.pop(("device", device_id), None)

    def allows(self, device: Device, action: str, topic: str) -> bool:
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

    def _make(self, name: str, rules: tuple[Statement, ...], app_id: str) -> Policy:
        now = self._ids.clock()
        policy = Policy(self._ids.record(), name, app_id, rules, now, now)
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
            raise PlatformError(Code.INVALID_INPUT, "(target_type)")
        bound = sum(target in one.targets for one in self._policies.values())
        if bound >= self._limits.policies_per_target:
            raise PlatformError(Code.POLICY_LIMIT)
