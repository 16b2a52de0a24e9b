"""The route "sub-device": children that the gateway adds and reports over its own session.

They have no secrets: the gateway's session vouches for them.  In place of a secret the device ID is
kept, durable before the child is reported online: a child without a kept device ID is requested
again, and found at the platform.  The host is kept beside it: another instance does not know the
child, and has not deleted it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.messages import node_name
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
    MissingFromReply,
    unanswered_outcome,
)
from gatewayd.cloud.sub_devices.sessions import SubDeviceSession
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

MAX_BYTES = 1024
_KEY, _HOST = "device_id", "host"


def encode(device_id: str, host: str = "") -> Secret:
    """Return the secret to keep.  host: the domain name of the instance."""
    return Secret(json.dumps({_KEY: device_id, _HOST: host}).encode())


def decode(kept: Secret) -> str:
    """Return the device ID in a kept secret; "" where there is none."""
    device_id = _load(kept).get(_KEY)
    return device_id if isinstance(device_id, str) and not DEVICE_ID.fault(device_id) else ""


def is_of_other_instance(kept: Secret, host: str) -> bool:
    """Whether the child was added at another instance than that of `host`."""
    added_at = _load(kept).get(_HOST)
    return isinstance(added_at, str) and added_at.lower() not in ("", host.lower())


def _load(kept: Secret) -> Mapping[str, object]:
    data = kept.reveal()
    if len(data) > MAX_BYTES:
        return {}
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


class HuaweiSubDeviceRoute:
    """The route of the gateway's sub-devices.  Implements Route."""

    def __init__(self, children: HuaweiSubDevices) -> None:
        self._children = children

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why this name cannot be registered here; None if it may be tried."""
        return None if self._children.cache.has_room(node_name(name)) else GATEWAY_FULL

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return why no request can be made now: the gateway must be online."""
        return await self._children.check_ready(name)

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Request the child, batched with others; see Route."""
        added = await self._add(name)
        if isinstance(added, Refused):
            self._children.cache.release(node_name(name))
        if not isinstance(added, str):
            return added
        await keep(encode(added, self._children.host))
        return Issued()

    async def connect(self, name: CloudName, secret: Secret) -> SubDeviceSession:
        """Log in once.  Raises LoginRefused, LoginRemoved, LoginFailed.

        A child that an instance configured since does not know was not removed there.
        """
        device_id = decode(secret)
        if not device_id:
            raise LoginRefused(reasons.NO_DEVICE_ID)
        if (not_ready := await self._children.check_ready(name)) is not None:
            raise LoginFailed(not_ready)
        try:
            return await self._children.sessions.connect(name, device_id, secret)
        except LoginRemoved as removal:
            if is_of_other_instance(secret, self._children.host):
                raise LoginFailed(reasons.OTHER_INSTANCE) from removal
            raise

    async def unbind(self, name: CloudName) -> Reason | None:
        """Delete the child at the platform; return why that was not done."""
        if (offline := await self._children.offline(name)) is not None:
            return offline
        return await self._children.sessions.unbind(name)

    async def close(self) -> None:
        """Do nothing: the provider closes what the routes share."""

    async def _add(self, name: CloudName) -> str | Outcome:
        """Return the child's device ID, or how the registration ended."""
        try:
            return await self._children.sessions.add(node_name(name))
        except Denied as denied:
            self._children.sessions.cooldown.start(node_name(name), denied.meaning)
            return denied.meaning.outcome
        except MissingFromReply:
            return Unknown(reasons.NOT_LISTED)
        except UNANSWERED as error:
            return unanswered_outcome(error)
