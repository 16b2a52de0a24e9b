"""Dynamic registration at the simulated Alibaba cloud other than by MQTT CONNECT.  No I/O.

Sources: the vendor's pages "Register sub-devices" (help.aliyun.com/document_detail/89298) and
"HTTPS-based dynamic registration", and the names of fields that its C SDK reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
from gatewayd.simulator.alibaba.credentials import method_of, signed
from gatewayd.simulator.alibaba.devices import AlibabaNodeType, Name
from gatewayd.simulator.alibaba.registry import AlibabaRegistry
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.alibaba.topology import SimulatedTopology

_SIGNED = ("random", "signMethod", "sign")


class DynamicRegistration:
    """The issuer of secrets to sub-devices through their gateway, and to devices over HTTPS.

    evict: detaches a sub-device from its gateway.
    """

    def __init__(
        self,
        registry: AlibabaRegistry,
        topology: SimulatedTopology,
        rules: AlibabaRules,
        *,
        evict: Callable[[Name], None],
    ) -> None:
        self._registry, self._topology, self._rules = registry, topology, rules
        self._evict = evict

    def register(self, request: GatewayRequest) -> object:
        """Issue secrets: the gateway's session vouches for its sub-devices.  Raises AlinkFailure.

        A device that a fault spoils is missing in the data; any other failure fails the request.
        """
        names = [name(one) for one in entries(request.params, (), self._rules.batch)]
        children = [child for child in names if not request.spoiled(child)]
        for child in children:
            self._check_child(request.gateway, child)
            if self._topology.gateway_of(child) not in (None, request.gateway):
                raise AlinkFailure(AlinkCode.BOUND_TO_ANOTHER_GATEWAY, [named(child)])
            self._check_new(child)
        return [self._issue(child, {"iotId": "-".join(child)}) for child in children]

    def product_register(self, request: GatewayRequest) -> object:
        """Issue secrets on proof of the product's secret.  Raises AlinkFailure.

        Each device succeeds or fails separately.  One that is attached to another gateway is taken
        over, although it is activated: this is the purpose of the request.
        """
        proxied = request.params.get("proxieds") if isinstance(request.params, dict) else None
        data: dict[str, list[object]] = {"successes": [], "failures": []}
        for one in entries(proxied, _SIGNED, self._rules.proxied):
            try:
                data["successes"].append(self._take(request, one))
            except AlinkFailure as failed:
                detail = {"code": failed.code, "message": str(failed)}
                data["failures"].append(named(name(one)) | {"errorDetail": detail})
        return data

    def https(self, form: Mapping[str, str]) -> object:
        """Issue a secret to a device that registers over HTTPS.  Raises AlinkFailure."""
        one = entry(dict(form), _SIGNED)
        self._check_proof(one, AlinkCode.PRODUCT_NOT_FOUND)
        if self._registry.products[one["productKey"]].node is AlibabaNodeType.SUB_DEVICE:
            raise AlinkFailure(AlinkCode.BAD_PARAMETER)
        self._check_device(name(one))
        self._check_new(name(one))
        return self._issue(name(one), {})

    def _take(self, request: GatewayRequest, one: DeviceEntry) -> object:
        child = name(one)
        if code := request.spoiled(child):
            raise AlinkFailure(code)
        self._check_proof(one, AlinkCode.PRODUCT_LOOKUP_FAILED)
        self._check_child(request.gateway, child)
        if self._topology.gateway_of(child) in (None, request.gateway):
            self._check_new(child)
        else:
            self._evict(child)
        return self._issue(child, {})

    def _check_proof(self, one: DeviceEntry, unknown: AlinkCode) -> None:
        product = self._registry.products.get(one["productKey"])
        if product is None:
            raise AlinkFailure(unknown)
        if (digest := method_of(one["signMethod"].lower())) is None:
            raise AlinkFailure(AlinkCode.SIGN_METHOD_UNSUPPORTED)
        fields = {key: one[key] for key in ("deviceName", "productKey", "random")}
        if not signed(product.secret, fields, digest, one["sign"]):
            raise AlinkFailure(AlinkCode.SIGNATURE_FAILED)

    def _check_child(self, gateway: Name, child: Name) -> None:
        """Check a sub-device.  The code for a device of another type is not documented."""
        if child == gateway:
            raise AlinkFailure(AlinkCode.SAME_DEVICE, [named(child)])
        if (product := self._registry.products.get(child[0])) is None:
            raise AlinkFailure(AlinkCode.PRODUCT_LOOKUP_FAILED, [named(child)])
        if product.node is not AlibabaNodeType.SUB_DEVICE:
            raise AlinkFailure(AlinkCode.BAD_PARAMETER, [named(child)])
        self._check_device(child)

    def _check_device(self, device: Name) -> None:
        if not self._registry.products[device[0]].dynamic:
            raise AlinkFailure(AlinkCode.REGISTRATION_OFF, [named(device)])
        if device not in self._registry.devices:
            raise AlinkFailure(AlinkCode.DEVICE_NOT_FOUND, [named(device)])
        if self._registry.devices[device].disabled:
            raise AlinkFailure(AlinkCode.REGISTRANT_DISABLED, [named(device)])

    def _check_new(self, device: Name) -> None:
        if not self._registry.devices[device].may_register:
            raise AlinkFailure(AlinkCode.ALREADY_ACTIVATED, [named(device)])

    def _issue(self, device: Name, more: Mapping[str, str]) -> dict[str, str]:
        return {**more, **named(device), "deviceSecret": self._registry.issue(device)}
