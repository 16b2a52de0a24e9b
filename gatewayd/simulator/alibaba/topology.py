"""The topology of the simulated Alibaba cloud: gateways and their sub-devices.  No I/O.

Source: the vendor's page "Manage topological relationships" (help.aliyun.com/document_detail/
89299).  A batch is attached whole or not at all, as the page on the cloud's own BatchAddThingTopo
says (145672); of a batch that a gateway sends, the vendor does not say it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from gatewayd.simulator.alibaba.alink import (
    AlinkCode,
    AlinkFailure,
    DeviceEntry,
    GatewayRequest,
    entries,
    name,
    named,
    well_named,
)
from gatewayd.simulator.alibaba.credentials import method_of, signed
from gatewayd.simulator.alibaba.devices import AlibabaDevice, AlibabaNodeType, Name
from gatewayd.simulator.alibaba.registry import AlibabaRegistry
from gatewayd.simulator.alibaba.rules import AlibabaRules

MAX_FOUND = 1_000
"""The number of the newest found devices that are remembered for each gateway."""

_SIGNED = ("clientId", "timestamp", "signmethod", "sign")
_TIMESTAMP = re.compile(r"[0-9]{1,20}")


class SimulatedTopology:
    """The topology; a sub-device has one gateway at most."""

    def __init__(self) -> None:
        self._gateways: dict[Name, Name] = {}
        self._children: dict[Name, dict[Name, None]] = {}
        self._found: dict[Name, deque[Name]] = {}

    def take_over(self, other: SimulatedTopology) -> None:
        """Become like another one."""
        self._gateways.update(other._gateways)
        self._children.update(other._children)
        self._found.update(other._found)

    def gateway_of(self, child: Name) -> Name | None:
        """Return the gateway a sub-device is attached to."""
        return self._gateways.get(child)

    def children(self, gateway: Name) -> tuple[Name, ...]:
        """Return the sub-devices of a gateway, in the order of attachment."""
        return tuple(self._children.get(gateway, ()))

    def attach(self, gateway: Name, child: Name) -> None:
        """Attach a sub-device, and detach it from another gateway."""
        if self._gateways.get(child) != gateway:
            self.detach(child)
            self._gateways[child] = gateway
            self._children.setdefault(gateway, {})[child] = None

    def detach(self, child: Name) -> None:
        """Detach a sub-device, if it is attached."""
        if gateway := self._gateways.pop(child, None):
            del self._children[gateway][child]

    def forget(self, gateway: Name) -> None:
        """Detach all sub-devices of a gateway."""
        for child in self.children(gateway):
            self.detach(child)
        self._found.pop(gateway, None)

    def find(self, gateway: Name, device: Name) -> None:
        """Remember that a gateway has found a device."""
        found = self._found.setdefault(gateway, deque(maxlen=MAX_FOUND))
        if device not in found:
            found.append(device)

    def found(self, gateway: Name) -> tuple[Name, ...]:
        """Return the devices that a gateway has found, the newest last."""
        return tuple(self._found.get(gateway, ()))


class TopologyRequests:
    """The requests of a gateway about its topology.

    evict: detaches a sub-device from its gateway.  offline: ends its session.
    """

    def __init__(
        self,
        registry: AlibabaRegistry,
        topology: SimulatedTopology,
        rules: AlibabaRules,
        *,
        evict: Callable[[Name], None],
        offline: Callable[[Name], None],
    ) -> None:
        self._registry, self._topology, self._rules = registry, topology, rules
        self._evict, self._offline = evict, offline

    def add(self, request: GatewayRequest) -> object:
        """Attach sub-devices whose secrets are known.  Raises AlinkFailure."""
        found = entries(_renamed(request.params), _SIGNED, self._rules.batch)
        for one in found:
            self._check_new(request, one)
        children = set(self._topology.children(request.gateway)) | {name(one) for one in found}
        if len(children) > self._rules.children:
            raise AlinkFailure(AlinkCode.TOO_MANY_CHILDREN)
        for one in found:
            if self._topology.gateway_of(name(one)) not in (None, request.gateway):
                self._evict(name(one))
            self._topology.attach(request.gateway, name(one))
        return [named(name(one)) for one in found]

    def delete(self, request: GatewayRequest) -> object:
        """Detach sub-devices; one that is online goes offline.  Raises AlinkFailure."""
        children = [name(one) for one in entries(request.params, (), self._rules.batch)]
        for child in children:
            _spoil(request, child)
            self._device(child)
            if self._topology.gateway_of(child) != request.gateway:
                raise AlinkFailure(AlinkCode.NO_TOPOLOGY, [named(child)])
        for child in children:
            self._offline(child)
            self._topology.detach(child)
        return [named(child) for child in children]

    def get(self, request: GatewayRequest) -> object:
        """Return the attached sub-devices.  The vendor's C SDK sends parameters "{}"."""
        if request.params not in ({}, "{}"):
            raise AlinkFailure(AlinkCode.BAD_PARAMETER)
        return [named(child) for child in self._topology.children(request.gateway)]

    def found(self, request: GatewayRequest) -> object:
        """Remember devices found on a LAN, created or not.  Raises AlinkFailure."""
        seen = entries(request.params, (), self._rules.batch)
        for one in seen:
            _spoil(request, name(one))
            if one["productKey"] not in self._registry.products:
                raise AlinkFailure(AlinkCode.PRODUCT_NOT_FOUND, [named(name(one))])
            if not well_named(one["deviceName"]):
                raise AlinkFailure(AlinkCode.BAD_DEVICE_NAME, [named(name(one))])
        for one in seen:
            self._topology.find(request.gateway, name(one))
        return {}

    def _check_new(self, request: GatewayRequest, one: DeviceEntry) -> None:
        child = name(one)
        _spoil(request, child)
        if child == request.gateway:
            raise AlinkFailure(AlinkCode.SAME_DEVICE, [named(child)])
        device = self._device(child)
        if device.disabled:
            raise AlinkFailure(AlinkCode.REGISTRANT_DISABLED, [named(child)])
        if not proven(one, one["signmethod"], device):
            raise AlinkFailure(AlinkCode.BAD_SIGNATURE_OF_TOPOLOGY, [named(child)])
        if self._topology.gateway_of(child) in (None, request.gateway) or self._rules.moves:
            return
        raise AlinkFailure(AlinkCode.BOUND_TO_ANOTHER_GATEWAY, [named(child)])

    def _device(self, child: Name) -> AlibabaDevice:
        """Return a sub-device.  The code for a device of another type is not documented."""
        if (device := self._registry.devices.get(child)) is None:
            raise AlinkFailure(AlinkCode.DEVICE_NOT_FOUND, [named(child)])
        if self._registry.products[child[0]].node is not AlibabaNodeType.SUB_DEVICE:
            raise AlinkFailure(AlinkCode.BAD_PARAMETER, [named(child)])
        return device


def _renamed(params: object) -> object:
    """Rename `signMethod`, which the vendor's SDK for Node.js sends, as the page has it."""
    if not isinstance(params, list):
        return params
    return [
        {"signmethod": one["signMethod"], **one}
        if isinstance(one, dict) and "signMethod" in one
        else one
        for one in params
    ]


def proven(one: DeviceEntry, method: str, device: AlibabaDevice) -> bool:
    """Whether an entry is signed with the device's newest secret.  Raises AlinkFailure.

    The whole client id is signed, bars included, as the vendor's SDKs do.
    """
    if _TIMESTAMP.fullmatch(one["timestamp"]) is None:
        raise AlinkFailure(AlinkCode.BAD_PARAMETER, [named(name(one))])
    if (digest := method_of(method.lower())) is None:
        raise AlinkFailure(AlinkCode.SIGN_METHOD_UNSUPPORTED, [named(name(one))])
    fields = {key: one[key] for key in ("clientId", "deviceName", "productKey", "timestamp")}
    return device.secret is not None and signed(device.secret, fields, digest, one["sign"])


def _spoil(request: GatewayRequest, child: Name) -> None:
    if code := request.spoiled(child):
        raise AlinkFailure(code, [named(child)])
