"""Device policies at the simulated Huawei platform's management interface.  Pure.

Source: the vendor's API "Device policy management" (api-iothub), and the models of its Python SDK.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from gatewayd.simulator.huawei import times
from gatewayd.simulator.huawei.management.rest import (
    ManagementAnswer,
    ManagementRequest,
    ManagementRoute,
    page,
)
from gatewayd.simulator.huawei.platform.errors import PlatformError
from gatewayd.simulator.huawei.platform.policies import DevicePolicy


@dataclass(frozen=True, slots=True)
class _Target:
    """What a policy is bound to."""

    target_type: str
    target_id: str

    @property
    def record_id(self) -> str:
        """The order of pages: any stable one."""
        return hashlib.sha256(f"{self.target_type}/{self.target_id}".encode()).hexdigest()[:24]


def _create(request: ManagementRequest) -> ManagementAnswer:
    body = request.body
    return _whole(
        request.instance.policies.create(
            body.demand("policy_name"), body.any("statement"), body.text("app_id")
        )
    )


def _list(request: ManagementRequest) -> ManagementAnswer:
    query = request.query
    found = request.instance.policies.list(query.text("app_id"), query.text("policy_name"))
    return page("policies", found, query, _summary)


def _show(request: ManagementRequest) -> ManagementAnswer:
    return _whole(request.instance.policies.get(request.path["policy_id"]))


def _update(request: ManagementRequest) -> ManagementAnswer:
    changes = request.body.given("policy_name", "statement")
    return _whole(request.instance.policies.update(request.path["policy_id"], changes))


def _delete(request: ManagementRequest) -> None:
    request.instance.policies.delete(request.path["policy_id"])


def _bind(request: ManagementRequest) -> ManagementAnswer:
    kind, wanted = request.body.demand("target_type"), request.body.listed("target_ids", str)
    failed = request.instance.policies.bind(request.path["policy_id"], kind, wanted)
    return _outcome(request, wanted, failed)


def _unbind(request: ManagementRequest) -> ManagementAnswer:
    kind, wanted = request.body.demand("target_type"), request.body.listed("target_ids", str)
    failed = request.instance.policies.unbind(request.path["policy_id"], kind, wanted)
    return _outcome(request, wanted, failed)


def _outcome(
    request: ManagementRequest, wanted: Sequence[str], failed: Sequence[tuple[str, PlatformError]]
) -> ManagementAnswer:
    names = {target for target, _ in failed}
    return {
        "policy_id": request.path["policy_id"],
        "target_type": request.body.demand("target_type"),
        "success_targets": [one for one in wanted if one not in names],
        "failure_targets": [{"target_id": target, **error.body} for target, error in failed],
    }


def _list_targets(request: ManagementRequest) -> ManagementAnswer:
    bound = request.instance.policies.targets(
        request.path["policy_id"], request.body.text("target_type")
    )
    return page("targets", [_Target(*one) for one in bound], request.body, asdict)


def _summary(policy: DevicePolicy) -> Mapping[str, object]:
    return {
        "app_id": policy.app_id,
        "policy_id": policy.policy_id,
        "policy_name": policy.name,
        "create_time": times.basic(policy.created),
        "update_time": times.basic(policy.updated),
    }


def _whole(policy: DevicePolicy) -> Mapping[str, object]:
    return {**_summary(policy), "statement": [asdict(one) for one in policy.statements]}


_POLICY = "/device-policies/{policy_id}"
ROUTES: tuple[ManagementRoute, ...] = (
    ("POST", "/device-policies", 201, _create),
    ("GET", "/device-policies", 200, _list),
    ("GET", _POLICY, 200, _show),
    ("PUT", _POLICY, 200, _update),
    ("DELETE", _POLICY, 204, _delete),
    ("POST", f"{_POLICY}/bind", 200, _bind),
    ("POST", f"{_POLICY}/unbind", 200, _unbind),
    ("POST", f"{_POLICY}/list-targets", 200, _list_targets),
)
