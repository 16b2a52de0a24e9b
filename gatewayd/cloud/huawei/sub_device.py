"""The route "sub-device": children that the gateway adds and reports over its own session.

They have no secrets: the gateway's session vouches for them.  In place of a secret the device ID is
kept, durable before the child is reported online: a child without a kept device ID is requested
again, and found at the platform.  The host is kept beside it: another instance does not know the
child, and has not deleted it.

All sub-devices of one gateway share its link, its sessions and its downlink.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from gatewayd.cloud import mqtt
from gatewayd.cloud.command_router import CommandRouter
from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.commanding.commands import HuaweiCommands
from gatewayd.cloud.huawei.connection import HuaweiRateLimits, HuaweiUplink
from gatewayd.cloud.huawei.device_cache import DeviceCache, DeviceSync
from gatewayd.cloud.huawei.downlink import HuaweiDownlink
from gatewayd.cloud.huawei.messages import SubDeviceStatus, node_name
from gatewayd.cloud.huawei.reporting.publishers import HuaweiSubDevicePublisher, device_publisher
from gatewayd.cloud.huawei.requests import HuaweiRequests
from gatewayd.cloud.huawei.settings import DEVICE_ID, HuaweiGateway, HuaweiSettings
from gatewayd.cloud.huawei.sub_device_sessions import HuaweiSubDeviceSessions
from gatewayd.cloud.provider import (
    CloudRequestHandler,
    Issued,
    KeepSecret,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
    Outcome,
    Refused,
    Unknown,
)
from gatewayd.cloud.publisher import MappedMessage, MessagePublisher
from gatewayd.cloud.sub_devices.link import GatewayLink, NotSent
from gatewayd.cloud.sub_devices.link_monitor import LinkMonitor
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
from gatewayd.runtime.clock import SYSTEM_CLOCK, Clock

_NEW = (SubDeviceStatus.INACTIVE, SubDeviceStatus.UNKNOWN)


PATIENCE, LEAVE = 5.0, 20.0
"""Seconds for one response when the gateway leaves, and for all children together; children that
are not reported offline by then are when the gateway is back."""


class HuaweiSubDevices:
    """The children of one gateway.

    provider: its name in the configuration.  own: the gateway.  host: of the instance.
    random: so many unguessable bytes.  commands: those of the gateway and of its children.
    """

    def __init__(
        self,
        provider: str,
        settings: HuaweiSettings,
        own: HuaweiGateway,
        time: Clock = SYSTEM_CLOCK,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._settings, self._time, self._random = settings, time, random
        self._own = own
        self.host = settings.host
        self._link = GatewayLink[HuaweiUplink]()
        self.cache = DeviceCache(own.children)
        sync = DeviceSync(self._link, self.cache, settings.reply_timeout, time.now)
        self._limits = HuaweiRateLimits(own.status_per_second, time.now)
        requests = HuaweiRequests(self._link, own.status_per_second, self.cache.set_status)
        self._form = HuaweiCommands("", self._service_of)
        self.commands = CommandRouter(self._form, self._answer, provider, time.now)
        self.sessions = HuaweiSubDeviceSessions(
            requests, self.cache, sync, self.publisher, self.commands, time.now
        )
        self._downlink = HuaweiDownlink(
            provider, self.sessions, self.cache, sync, settings.products
        )
        self._monitor = LinkMonitor(provider, self._link, self._downlink, own.children)

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Pass on what the platform requests, from now on."""
        self._downlink.requests = requests

    def uplink(self, connection: mqtt.MqttConnection, device_id: str) -> HuaweiUplink:
        """Return the uplink over a connection of the gateway.  device_id: the gateway's."""
        timeout, limits = self._settings.reply_timeout, self._limits
        uplink = HuaweiUplink(device_id, connection, timeout, limits, self._time, self._random)
        self._form.own, uplink.on_command = device_id, self.commands.handle
        return uplink

    def own_publisher(self, connection: mqtt.MqttConnection, device_id: str) -> MessagePublisher:
        """Return the publisher of what the gateway says itself.  device_id: the gateway's."""
        service = self._settings.services.get(self._own.product, "")
        return device_publisher(connection, device_id, service, self._limits.messages)

    def publisher(self, name: CloudName, device_id: str) -> MessagePublisher:
        """Return the publisher of what a child says, over whatever session the gateway has."""
        service = self._settings.services.get(name.product, "")
        return HuaweiSubDevicePublisher(device_id, service, lambda: self._link.get().reports)

    def serve_over(self, uplink: HuaweiUplink) -> None:
        """Serve the children over the gateway's new session from now on."""
        self._link.put(uplink)
        self._monitor.update()

    def set_gateway_reason(self, reason: Reason | None) -> None:
        """Set why the gateway is not logged in; None where that is not known.

        It is ignored while the gateway is online, as when a second login fails.
        """
        self._monitor.offline_reason = None if self._link.current else reason

    def handover(self) -> AbstractContextManager[None]:
        """Return a context in which the gateway logs in, perhaps in place of its session."""
        return self._monitor.handover()

    async def leave(self, uplink: HuaweiUplink) -> None:
        """Report all children offline before the gateway closes this session.

        The platform would leave them online.  Does nothing where a newer session serves them.
        """
        if self._link.current is uplink:
            await self.sessions.online.leave(PATIENCE, LEAVE)

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return why no request can be made for this child now, after a short wait."""
        if (pause := self.sessions.cooldown.reason(node_name(name))) is not None:
            return pause
        return await self.offline(name)

    async def offline(self, name: CloudName) -> Reason | None:
        """Return why the gateway is not online, after a short wait; None if it is."""
        return await self._monitor.offline(name)

    def _service_of(self, device_id: str) -> str:
        """Return the service of values that do not name theirs, of a device that is online."""
        session = self.sessions.online.get(device_id)
        return self._settings.services.get(
            session.name.product if session else self._own.product, ""
        )

    async def _answer(self, _: str, mapped: MappedMessage) -> bool:
        """Answer a command over the gateway's newest session."""
        try:
            return await self._link.get().answer(mapped)
        except NotSent:
            return False

    async def close(self) -> None:
        """Cancel what is under way."""
        await self._monitor.close()
        await self._downlink.close()
        await self.sessions.close()


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
