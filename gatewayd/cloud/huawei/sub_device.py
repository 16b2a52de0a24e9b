"""The route "sub-device": children that the gateway adds and reports over its own session.

They have no secrets: the gateway's session vouches for them.

What is kept of a sub-device, which has no secret of its own: its device ID.  Pure.

It is durable before the child is reported online, as a secret would be: a child whose device ID
is not kept is asked for again, and found at the platform.  The host is kept beside it: another
instance does not know the child, and has not deleted it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.messages import node_name
from gatewayd.cloud.huawei.requests import NotListed
from gatewayd.cloud.huawei.settings import DEVICE_ID
from gatewayd.cloud.huawei.sub_devices import HuaweiSubDevices
from gatewayd.cloud.provider import (
    Issued,
    KeepSecret,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
    Outcome,
    Refused,
    Unknown,
)
from gatewayd.cloud.sub_devices.result_codes import (
    GATEWAY_FULL,
    UNANSWERED,
    Denied,
    unanswered_outcome,
)
from gatewayd.cloud.sub_devices.sessions import SubDeviceSession
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

MAX_BYTES = 1024
_KEY, _HOST = "device_id", "host"


def write(device_id: str, host: str = "") -> Secret:
    """Return what is to be kept.  host: the domain name of the instance."""
    return Secret(json.dumps({_KEY: device_id, _HOST: host}).encode())


def read(kept: Secret) -> str:
    """Return the device ID that was kept; "" where there is none."""
    device_id = _load(kept).get(_KEY)
    return device_id if isinstance(device_id, str) and not DEVICE_ID.fault(device_id) else ""


def is_elsewhere(kept: Secret, host: str) -> bool:
    """Whether the child was added at another instance than this."""
    told = _load(kept).get(_HOST)
    return isinstance(told, str) and told.lower() not in ("", host.lower())


def _load(kept: Secret) -> Mapping[str, object]:
    data = kept.reveal()
    if len(data) > MAX_BYTES:
        return {}
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


class HuaweiSubDeviceRoute:
    """Implements Route.  children: all of the gateway."""

    def __init__(self, children: HuaweiSubDevices) -> None:
        self._children = children

    def check_name(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        return None if self._children.roster.has_room(node_name(name)) else GATEWAY_FULL

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Tell why the platform could not be asked now: the gateway must be online."""
        return await self._children.check_ready(name)

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask for the child, as Route says; with others, where there are any."""
        told = await self._add(name)
        if isinstance(told, Refused):
            self._children.roster.spare(node_name(name))
        if not isinstance(told, str):
            return told
        await keep(write(told, self._children.host))
        return Issued()

    async def connect(self, name: CloudName, secret: Secret) -> SubDeviceSession:
        """Log in once.  Raises LoginRefused, LoginRemoved, LoginFailed.

        An instance that the configuration has turned to since does not know its children, and
        has removed none.
        """
        device_id = read(secret)
        if not device_id:
            raise LoginRefused(reasons.NO_DEVICE_ID)
        if (check_ready := await self._children.check_ready(name)) is not None:
            raise LoginFailed(check_ready)
        try:
            return await self._children.family.connect(name, device_id, secret)
        except LoginRemoved as removal:
            if is_elsewhere(secret, self._children.host):
                raise LoginFailed(reasons.OTHER_INSTANCE) from removal
            raise

    async def unbind(self, name: CloudName) -> Reason | None:
        """Delete the child at the platform; return why that was not done."""
        if (offline := await self._children.offline(name)) is not None:
            return offline
        return await self._children.family.unbind(name)

    async def close(self) -> None:
        """What the routes share is closed by whoever made it."""

    async def _add(self, name: CloudName) -> str | Outcome:
        """Return the child's device ID, or how the registration ended."""
        try:
            return await self._children.family.add(node_name(name))
        except Denied as denied:
            self._children.family.pauses.note(node_name(name), denied.meaning)
            return denied.meaning.outcome
        except NotListed:
            return Unknown(reasons.NOT_LISTED)
        except UNANSWERED as error:
            return unanswered_outcome(error)
