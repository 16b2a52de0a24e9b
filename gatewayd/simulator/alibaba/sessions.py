"""The sessions of sub-devices through gateways of the simulated Alibaba cloud.  No I/O.

Sources: the vendor's page "Connect or disconnect sub-devices" (help.aliyun.com/document_detail/
89300), its error codes for sub-devices, and "Limits" (30527).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gatewayd.simulator.alibaba.alink import (
    AlinkCode,
    AlinkFailure,
    DeviceEntry,
    GatewayRequest,
    entries,
    entry,
    name,
    named,
)
from gatewayd.simulator.alibaba.broker import AlibabaBroker
from gatewayd.simulator.alibaba.credentials import served
from gatewayd.simulator.alibaba.devices import Name
from gatewayd.simulator.alibaba.registry import AlibabaRegistry
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.alibaba.topology import SimulatedTopology, proven

_SIGNED = ("clientId", "timestamp", "sign")
_MINUTE, _SECOND = 60.0, 1.0


class AlibabaSessions:
    """The sessions of sub-devices, at most one for each.  broker: has the gateways' connections."""

    def __init__(self, broker: AlibabaBroker) -> None:
        self._broker = broker
        self._gateways: dict[Name, Name] = {}
        self._children: dict[Name, dict[Name, None]] = {}

    def __iter__(self) -> Iterator[Name]:
        return iter(self._gateways)

    def gateway_of(self, child: Name) -> Name | None:
        """Return the gateway that a sub-device is online through."""
        return self._gateways.get(child)

    def children(self, gateway: Name) -> tuple[Name, ...]:
        """Return the sub-devices that are online through a gateway."""
        return tuple(self._children.get(gateway, ()))

    def begin(self, gateway: Name, child: Name, *, clean: bool) -> None:
        """Begin a session; doing it again is fine.  clean: whether nothing is kept of it."""
        self._gateways[child] = gateway
        self._children.setdefault(gateway, {})[child] = None
        self._broker.last(gateway, child, clean=clean)

    def serve(self, gateway: Name, child: Name) -> None:
        """Send a gateway everything of a sub-device, which asks for it by the option `_ss=1`."""
        self._broker.serve(gateway, child)

    def end(self, child: Name) -> None:
        """End a session, if there is one."""
        if gateway := self._gateways.pop(child, None):
            del self._children[gateway][child]
            self._broker.pause(gateway, child)

    def lose(self, gateway: Name) -> None:
        """End all sessions through a gateway."""
        for child in self.children(gateway):
            self.end(child)


class SessionRequests:
    """The requests of a gateway about the sessions of its sub-devices.

    clock: seconds.
    """

    def __init__(
        self,
        registry: AlibabaRegistry,
        topology: SimulatedTopology,
        sessions: AlibabaSessions,
        rules: AlibabaRules,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._registry, self._topology, self._sessions = registry, topology, sessions
        self._rules, self._clock = rules, clock

    def login(self, request: GatewayRequest) -> object:
        """Take a sub-device online.  Raises AlinkFailure."""
        one = _login(request.params, {})
        self._log_in(request, [one], [_is_clean(request.params)])
        return named(name(one))

    def batch_login(self, request: GatewayRequest) -> object:
        """Take sub-devices online, all or none.  Raises AlinkFailure that names those at fault.

        signMethod stands in each entry, as documented, or beside the list, as the SDKs send it.
        """
        params = request.params if isinstance(request.params, dict) else {}
        entries(params.get("deviceList"), _SIGNED, self._rules.sessions)
        shared = {key: params[key] for key in ("signMethod",) if key in params}
        found = [_login(one, shared) for one in params["deviceList"]]
        self._log_in(request, found, [_is_clean(one) for one in params["deviceList"]])
        return [named(name(one)) for one in found]

    def logout(self, request: GatewayRequest) -> object:
        """Take a sub-device offline.  Raises AlinkFailure."""
        child = name(entry(request.params, ()))
        self._log_out(request, [child])
        return named(child)

    def batch_logout(self, request: GatewayRequest) -> object:
        """Take sub-devices offline, all or none.  Raises AlinkFailure that names those at fault."""
        found = entries(request.params, (), self._rules.sessions)
        children = [name(one) for one in found]
        self._log_out(request, children)
        return [named(child) for child in children]

    def _log_in(self, request: GatewayRequest, found: list[DeviceEntry], clean: list[bool]) -> None:
        self._check_rates(request.gateway, found)
        online = set(self._sessions.children(request.gateway)) | {name(one) for one in found}
        if len(online) > self._rules.children:
            raise AlinkFailure(AlinkCode.TOO_MANY_ONLINE, [named(name(one)) for one in found])
        codes = {name(one): self._login_fault(request, one) for one in found}
        self._fail(codes)
        for one, is_clean in zip(found, clean, strict=True):
            self._registry.admit(name(one))
            self._sessions.begin(request.gateway, name(one), clean=is_clean)
        for one in found:
            if served(one["clientId"]):
                self._sessions.serve(request.gateway, name(one))

    def _login_fault(self, request: GatewayRequest, one: DeviceEntry) -> int | None:
        """Return why a sub-device may not go online."""
        child = name(one)
        if code := request.spoiled(child):
            return code
        if (device := self._registry.devices.get(child)) is None:
            deleted = child in self._registry.deleted
            return AlinkCode.DEVICE_DELETED if deleted else AlinkCode.DEVICE_NOT_FOUND
        if device.disabled:
            return AlinkCode.DEVICE_DISABLED
        if self._topology.gateway_of(child) != request.gateway:
            return AlinkCode.NO_TOPOLOGY
        if not proven(one, one["signMethod"], device):
            return AlinkCode.BAD_SIGNATURE_OF_LOGIN
        return None

    def _log_out(self, request: GatewayRequest, children: list[Name]) -> None:
        self._fail({child: self._logout_fault(request, child) for child in children})
        for child in children:
            self._sessions.end(child)

    def _logout_fault(self, request: GatewayRequest, child: Name) -> int | None:
        if code := request.spoiled(child):
            return code
        online = self._sessions.gateway_of(child) == request.gateway
        return None if online else AlinkCode.NO_SESSION

    def _check_rates(self, gateway: Name, found: list[DeviceEntry]) -> None:
        """Count logins by gateway and by sub-device.  Raises AlinkFailure: too fast."""
        now, rules = self._clock(), self._rules
        window = self._registry.devices[gateway].logins
        if not all(window.admits(now, rules.logins, _SECOND) for _ in found):
            raise AlinkFailure(AlinkCode.TOO_FAST, [])
        devices = {name(one): self._registry.devices.get(name(one)) for one in found}
        self._fail(
            {
                child: AlinkCode.TOO_FAST
                for child, device in devices.items()
                if device and not device.logins.admits(now, rules.child_logins, _MINUTE)
            }
        )

    def _fail(self, codes: Mapping[Name, int | None]) -> None:
        """Raises AlinkFailure, with the code of the first device at fault, if there is one."""
        failing = {child: code for child, code in codes.items() if code}
        for code in failing.values():
            raise AlinkFailure(code, [named(child) for child in failing])


def _is_clean(params: object) -> bool:
    """Whether a login asks for a session of which nothing is kept."""
    return not isinstance(params, dict) or params.get("cleanSession", "true") == "true"


def _login(params: object, shared: Mapping[str, object]) -> DeviceEntry:
    """Read a login; cleanSession is the text "true", "false", or missing.  Raises AlinkFailure."""
    merged = {**shared, **params} if isinstance(params, dict) else params
    one = entry(merged, (*_SIGNED, "signMethod"))
    if isinstance(merged, dict) and merged.get("cleanSession", "true") not in ("true", "false"):
        raise AlinkFailure(AlinkCode.BAD_PARAMETER)
    return one
