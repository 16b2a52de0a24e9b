"""Messages of the owner to devices, which wait for a device that is offline.  No I/O.

Sources: "Message Delivery Overview" (usermanual-iothub/iot_01_0332), and the models
DeviceMessageRequest and DeviceMessage of the vendor's management SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError

MAX_KEPT = 20
"""Messages of one device, of which the oldest make room."""
MAX_MESSAGE = 256 * 1024
"""Bytes of a message, a command, or properties to set (also api-iothub/iot_06_v5_0035)."""
MAX_TTL, TTL_STEP = 1440, 5
"""Minutes that a message waits at most, and what they are a multiple of."""
_MINUTE = 60.0


class DeviceMessageStatus(StrEnum):
    """Where a message is."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"


@dataclass(slots=True)
class DeviceMessage:
    """A message to a device.

    content: as JSON has it.  raw: whether it is sent as it is, without the platform's envelope.
    topic: the whole topic; "" for the system's own.  ttl: minutes that it waits; 0 for not at all.
    created, finished: seconds since 1970.  error: why it failed.
    """

    message_id: str
    content: object
    created: float
    name: str | None = None
    raw: bool = False
    encoding: str = "none"
    topic: str = ""
    ttl: int = MAX_TTL
    status: DeviceMessageStatus = DeviceMessageStatus.PENDING
    finished: float | None = None
    error: IotdaCode | None = None

    def finish(
        self, status: DeviceMessageStatus, now: float, error: IotdaCode | None = None
    ) -> None:
        """Set the last status."""
        self.status, self.finished, self.error = status, now, error


class DeviceMessages:
    """The messages to an instance's devices.  clock: seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._messages: dict[str, list[DeviceMessage]] = {}

    def add(self, device_id: str, message: DeviceMessage) -> None:
        """Keep a message.  Raises PlatformError for an id that the device had before."""
        kept = self._messages.setdefault(device_id, [])
        if any(one.message_id == message.message_id for one in kept):
            raise PlatformError(IotdaCode.MESSAGE_EXISTS)
        kept.append(message)
        del kept[:-MAX_KEPT]

    def list(self, device_id: str) -> Sequence[DeviceMessage]:
        """Return the messages to a device, the oldest first."""
        kept, now = self._messages.get(device_id, []), self._clock()
        for one in kept:
            late = now >= one.created + one.ttl * _MINUTE
            if one.status is DeviceMessageStatus.PENDING and late:
                one.finish(DeviceMessageStatus.TIMEOUT, now)
        return kept

    def get(self, device_id: str, message_id: str) -> DeviceMessage:
        """Return one.  Raises PlatformError."""
        for one in self.list(device_id):
            if one.message_id == message_id:
                return one
        raise PlatformError(IotdaCode.UNKNOWN_MESSAGE)

    def pending(self, device_id: str) -> Sequence[DeviceMessage]:
        """Return those that wait, the oldest first."""
        kept = self.list(device_id)
        return [one for one in kept if one.status is DeviceMessageStatus.PENDING]

    def forget(self, device_id: str) -> None:
        """Delete the messages to a deleted device."""
        self._messages.pop(device_id, None)
