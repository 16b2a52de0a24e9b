"""The requests of gateways about their children, at the Huawei platform.  No I/O.

Source: the vendor's pages on gateways and child devices (see events.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gatewayd.simulator.huawei import events
from gatewayd.simulator.huawei.events import MalformedEvent
from gatewayd.simulator.huawei.options import Excess, HuaweiRules
from gatewayd.simulator.huawei.platform.device import DeviceAuth, HuaweiDevice, HuaweiDeviceStatus
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.rate_window import RateWindow

_NEW = {"node_id", "product_id", "device_id", "parent_device_id", "name", "description"}


@dataclass(frozen=True, slots=True)
class RequestedDevice:
    """One device of a request.

    device_id: in a request to add, the id that it is to have.
    named: the fields that name it in a failure.  fields: those received.
    """

    device_id: str
    named: Mapping[str, object]
    fields: Mapping[str, object]


def read(event_type: str, paras: Mapping[str, object]) -> tuple[RequestedDevice, ...]:
    """Read the devices of a request.  Raises MalformedEvent."""
    key = "device_statuses" if event_type == events.STATUS else "devices"
    listed = paras.get(key)
    if not isinstance(listed, list) or not listed:
        raise MalformedEvent
    return tuple(_READERS[event_type](one) for one in listed)


def _new(one: object) -> RequestedDevice:
    """Read a child to add.  One SDK of the vendor sends empty texts for missing fields."""
    if not isinstance(one, dict):
        raise MalformedEvent
    given = {name: value for name, value in one.items() if value not in ("", None)}
    texts = [given[name] for name in _NEW & set(given)]
    if not {"node_id", "product_id"} <= set(given) or not all(isinstance(t, str) for t in texts):
        raise MalformedEvent
    named = {name: given[name] for name in ("node_id", "product_id")}
    own = str(given.get("device_id") or f"{given['product_id']}_{given['node_id']}")
    return RequestedDevice(own, named, given)


def _listed(one: object) -> RequestedDevice:
    if not isinstance(one, str):
        raise MalformedEvent
    return RequestedDevice(one, {"device_id": one}, {})


def _reported(one: object) -> RequestedDevice:
    match one:
        case {"device_id": str(device_id), "status": str(status)}:
            return RequestedDevice(device_id, {"device_id": device_id}, {"status": status})
    raise MalformedEvent


_READERS: Mapping[str, Callable[[object], RequestedDevice]] = {
    events.ADD: _new,
    events.DELETE: _listed,
    events.STATUS: _reported,
}


_SECOND = 1.0


class InjectedFailure(Exception):
    """A planned failure of a device.  code: any."""

    def __init__(self, code: str) -> None:
        self.code, self.message = code, "Struck by a fault."
        super().__init__(code)


@dataclass(slots=True)
class SubDeviceResponse:
    """The response to a request: its paras, and the error codes in it."""

    successes: list[object] = field(default_factory=list)
    failures: list[dict[str, object]] = field(default_factory=list)

    @property
    def paras(self) -> dict[str, object]:
        """The paras of the response."""
        return {"successful_devices": self.successes, "failed_devices": self.failures}

    @property
    def codes(self) -> list[str]:
        """The code of each device; "0" for success."""
        return ["0"] * len(self.successes) + [str(one["error_code"]) for one in self.failures]


class SubDeviceRequests:
    """The requests to one instance.

    clock: seconds since 1970.  reported: called with each accepted status.
    """

    def __init__(
        self,
        instance: IotdaInstance,
        rules: HuaweiRules,
        clock: Callable[[], float],
        reported: Callable[[HuaweiDevice, HuaweiDeviceStatus], None],
    ) -> None:
        self._instance, self._rules, self._clock = instance, rules, clock
        self._reported = reported
        self._statuses = RateWindow()
        self._doers: Mapping[str, Callable[[str, RequestedDevice], object]] = {
            events.ADD: self._add,
            events.DELETE: self._delete,
            events.STATUS: self._status,
        }

    def answer(
        self,
        gateway_id: str,
        event_type: str,
        asked: Sequence[RequestedDevice],
        spoiled: Callable[[str], str],
    ) -> SubDeviceResponse | None:
        """Perform a gateway's request; None if it is not answered.

        spoiled: returns the code that a device must fail with, or "".
        """
        most = self._rules.statuses if event_type == events.STATUS else self._rules.batch
        excess = len(asked) > most
        if excess and self._rules.excess is Excess.IGNORE:
            return None
        answer = SubDeviceResponse()
        for one in asked[:most] if self._rules.excess is Excess.TRUNCATE else asked:
            code = IotdaCode.INVALID_INPUT if excess and self._rules.excess is Excess.FAIL else ""
            self._one(gateway_id, event_type, one, answer, code or spoiled(one.device_id))
        return answer

    def info(self, device: HuaweiDevice) -> dict[str, object]:
        """Return the fields of a child for its gateway; unknown ones are null."""
        product = self._instance.products.get(device.product_id)
        return {
            "parent_device_id": device.gateway_id,
            "node_id": device.node_id,
            "device_id": device.device_id,
            "name": device.name,
            "description": device.description,
            "manufacturer_id": product.manufacturer_name,
            "model": product.model,
            "product_id": device.product_id,
            "fw_version": device.fw_version,
            "sw_version": device.sw_version,
            "status": device.status,
            "extension_info": device.extension_info,
        }

    def _one(
        self,
        gateway_id: str,
        event_type: str,
        one: RequestedDevice,
        answer: SubDeviceResponse,
        code: str,
    ) -> None:
        try:
            answer.successes.append(self._do(gateway_id, event_type, one, code))
        except (PlatformError, InjectedFailure) as error:
            failure = {"error_code": str(error.code), "error_msg": error.message}
            answer.failures.append({**one.named, **failure})

    def _do(self, gateway_id: str, event_type: str, one: RequestedDevice, code: str) -> object:
        if code:
            raise InjectedFailure(code)
        return self._doers[event_type](gateway_id, one)

    def _add(self, gateway_id: str, one: RequestedDevice) -> object:
        devices, given = self._instance.devices, one.fields
        parent = str(given.get("parent_device_id", gateway_id))
        if parent != gateway_id:
            self._child(gateway_id, parent)
        device = devices.add(
            node_id=str(given["node_id"]),
            product_id=str(given["product_id"]),
            device_id=_text(given, "device_id"),
            name=_text(given, "name"),
            description=_text(given, "description"),
            app_id=devices.get(gateway_id).app_id,
            gateway_id=parent,
            auth=DeviceAuth(),
            extension_info=given.get("extension_info"),
        )
        return self.info(device)

    def _delete(self, gateway_id: str, one: RequestedDevice) -> object:
        self._child(gateway_id, one.device_id)
        self._instance.devices.delete(one.device_id)
        return one.device_id

    def _status(self, gateway_id: str, one: RequestedDevice) -> object:
        status = one.fields["status"]
        if status not in (HuaweiDeviceStatus.ONLINE, HuaweiDeviceStatus.OFFLINE):
            raise PlatformError(IotdaCode.INVALID_INPUT, "(status)")
        self._check_rate()
        device = self._child(gateway_id, one.device_id)
        if device.frozen:
            raise PlatformError(IotdaCode.DEVICE_FROZEN)
        if status == HuaweiDeviceStatus.ONLINE:
            device.connect(self._clock())
        else:
            device.disconnect(self._clock())
        self._reported(device, HuaweiDeviceStatus(str(status)))
        return {"device_id": one.device_id, "status": status}

    def _child(self, gateway_id: str, device_id: str) -> HuaweiDevice:
        """Return a child of a gateway, or a child of one."""
        if not self._instance.devices.belongs(device_id, gateway_id):
            raise PlatformError(IotdaCode.NOT_A_CHILD)
        return self._instance.devices.get(device_id)

    def _check_rate(self) -> None:
        """Count a status.  Raises PlatformError for too many in a second."""
        if not self._statuses.admits(self._clock(), self._rules.status_rate, _SECOND):
            raise PlatformError(IotdaCode.TOO_FAST)


def _text(given: Mapping[str, object], name: str) -> str | None:
    return str(given[name]) if name in given else None
