"""The route "sub-device": children that the gateway adds and reports over its own session.

They have no secrets: the gateway's session vouches for them.
"""

from __future__ import annotations

from gatewayd.cloud.huawei import child_reasons, document
from gatewayd.cloud.huawei.calls import NotListed
from gatewayd.cloud.huawei.children import Children
from gatewayd.cloud.huawei.events import node_name
from gatewayd.cloud.provider import (
    Issued,
    Keep,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
    Outcome,
    Refused,
    Unknown,
)
from gatewayd.cloud.subdevices.coded import Denied
from gatewayd.cloud.subdevices.reasons import GATEWAY_FULL, UNANSWERED, unanswered_outcome
from gatewayd.cloud.subdevices.session import ChildSession
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret


class SubDevice:
    """Implements Route.  children: all of the gateway."""

    def __init__(self, children: Children) -> None:
        self._children = children

    def why_not(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        return None if self._children.roster.has_room(node_name(name)) else GATEWAY_FULL

    async def obstacle(self, name: CloudName) -> Reason | None:
        """Tell why the platform could not be asked now: the gateway must be online."""
        return await self._children.obstacle(name)

    async def register(self, name: CloudName, keep: Keep) -> Outcome:
        """Ask for the child, as Route says; with others, where there are any."""
        told = await self._add(name)
        if isinstance(told, Refused):
            self._children.roster.spare(node_name(name))
        if not isinstance(told, str):
            return told
        await keep(document.write(told, self._children.host))
        return Issued()

    async def connect(self, name: CloudName, secret: Secret) -> ChildSession:
        """Log in once.  Raises LoginRefused, LoginRemoved, LoginFailed.

        An instance that the configuration has turned to since does not know its children, and
        has removed none.
        """
        device_id = document.read(secret)
        if not device_id:
            raise LoginRefused(child_reasons.BAD_DOCUMENT)
        if (obstacle := await self._children.obstacle(name)) is not None:
            raise LoginFailed(obstacle)
        try:
            return await self._children.family.connect(name, device_id, secret)
        except LoginRemoved as removal:
            if document.is_elsewhere(secret, self._children.host):
                raise LoginFailed(child_reasons.ELSEWHERE) from removal
            raise

    async def forget(self, name: CloudName) -> Reason | None:
        """Delete the child at the platform; return why that was not done."""
        if (offline := await self._children.offline(name)) is not None:
            return offline
        return await self._children.family.forget(name)

    async def close(self) -> None:
        """What the routes share is closed by whoever made it."""

    async def _add(self, name: CloudName) -> str | Outcome:
        """Return the child's device ID, or how the registration ended."""
        try:
            return await self._children.family.add(node_name(name))
        except Denied as denied:
            self._children.family.pauses.note(node_name(name), denied.coded)
            return denied.coded.outcome
        except NotListed:
            return Unknown(child_reasons.NOT_LISTED)
        except UNANSWERED as error:
            return unanswered_outcome(error)
