"""Registration of the simulated Alibaba cloud that is not by MQTT CONNECT.  No I/O.

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
from gatewayd.simulator.alibaba.topology import AlibabaTopology

_SIGNED = ("random", "signMethod", "sign")


class DynamicRegistration:
    """Issues secrets to sub-devices through their gateway, and to anybody over HTTPS.

    evict: ends a sub-device's tie to the gateway it is attached to.
    """

    def __init__(
        self,
        registry: AlibabaRegistry,
        topology: AlibabaTopology,
        rules: AlibabaRules,
        *,
        evict: Callable[[Name], None],
    ) -> None:
        self._registry, self._topology, self._rules = registry, topology, rules
        self._evict = evict

    def register(self, request: GatewayRequest) -> object:
        """Issue secrets: the gateway's own session vouches for its sub-devices.  Raises Failed.

        A device that a fault spoils is missing in the data; for any other failure, none is served.
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
        """Issue secrets to whoever knows the product's.  Raises Failed.

        Every device succeeds or fails for itself.  One that is attached to another gateway is
        taken over, though it is activated: that is what this request is for.
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
        """Issue a secret to a device that registers over HTTPS.  Raises Failed."""
        one = entry(dict(form), _SIGNED)
        self._check_proof(one, AlinkCode.PRODUCT_NOT_FOUND)
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
        """Which code a device gets that is no sub-device, nobody documents."""
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
