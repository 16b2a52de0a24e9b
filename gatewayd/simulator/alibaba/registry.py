"""The registry of the simulated Alibaba cloud: which devices may register and log in.  No I/O.

Sources: the vendor's pages "MQTT-based dynamic registration" (help.aliyun.com/document_detail/
132111.html), "Unique-certificate-per-product verification" (74006), "ResetThing" (155680),
"Register sub-devices" (89298), "Limits" (30527) and its table of codes (120329).

A product of the node type "Gateway sub-device" has no devices that connect for themselves: 89298.
The pages give no CONNACK code for it; a registration gets that of a failed authentication, a login
that of a device which is not authorised.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from gatewayd.simulator.alibaba.alink import well_named
from gatewayd.simulator.alibaba.credentials import (
    AlibabaAuthType,
    AlibabaConnectRefused,
    ConnackCode,
    ConnectRequest,
)
from gatewayd.simulator.alibaba.devices import (
    AlibabaDevice,
    AlibabaNodeType,
    Name,
    SimulatedAlibabaProduct,
)
from gatewayd.simulator.rate_window import RateWindow

MAX_DEVICES = 100_000
SHARERS = 5
"""Physical devices that may share a name that was not created, at most."""

_MINUTE, _SECOND = 60.0, 1.0


@dataclass(frozen=True, slots=True)
class RegistrationPush:
    """A message to a registering client, which never subscribes."""

    topic: str
    payload: Mapping[str, str]


class AlibabaRegistry:
    """Products and devices, by name.

    products: by productKey.
    clock: seconds.  random: so many random bytes; for secrets.
    rates: CONNECTs allowed for each device in a minute, and for all in a second; 0 for no limit.
    preregistration_free: whether devices may register without creation (authType regnwl).
    deleted: names of former devices.
    """

    def __init__(
        self,
        products: Mapping[str, SimulatedAlibabaProduct],
        devices: Iterable[Name],
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        *,
        rates: tuple[int, int] = (5, 500),
        preregistration_free: bool = False,
    ) -> None:
        self.products = dict(products)
        self.devices: dict[Name, AlibabaDevice] = {}
        self.deleted: dict[Name, None] = {}
        self.strangers: Counter[int] = Counter()
        self.clock, self._random = clock, random
        self._rate, self._all = rates
        self._unlisted, self._connects = preregistration_free, RateWindow()
        for name in devices:
            self.create(name)

    def create(self, name: Name) -> None:
        """Create a device without a secret; it replaces one of the same name.

        Raises KeyError for an unknown product, OverflowError when there are too many devices,
        ValueError for a name that breaks the rules (code 6280).
        """
        if name[0] not in self.products:
            raise KeyError(name[0])
        if not well_named(name[1]):
            raise ValueError(name[1])
        if len(self.devices) >= MAX_DEVICES:
            raise OverflowError("The simulated cloud is full")
        self.devices[name] = AlibabaDevice(created=self.clock())
        self.deleted.pop(name, None)

    def make_product(self, product: SimulatedAlibabaProduct) -> str:
        """Make a product, whose secret is chosen here; return its key.

        Dynamic registration is off at first: only the console's own switch turns it on (74006).
        """
        seed = self._random(8) + len(self.products).to_bytes(4, "big")
        key = f"a1{hashlib.sha256(seed).hexdigest()[:9]}"
        product.secret, product.dynamic = self._random(8).hex(), False
        product.created = self.clock()
        self.products[key] = product
        return key

    def secret_of(self, name: Name) -> str:
        """Return the secret of a device, which has one from its creation on.  Raises KeyError.

        It is no registration, and counts as none.
        """
        device = self.devices[name]
        if device.secret is None:
            device.secret = self._random(16).hex()
        return device.secret

    def new_name(self) -> str:
        """Return a name for a device whose owner gives it none ("RegisterDevice", 69470)."""
        return self._random(10).hex()

    def iot_id(self, name: Name) -> str:
        """Return the platform's own ID of a device: another device of the same name has another."""
        created = self.devices[name].created
        return hashlib.sha256(f"{name}{created}".encode()).hexdigest()[:20] + "000100"

    def of_iot_id(self, iot_id: str) -> Name | None:
        """Return the device of an ID; None where there is none."""
        return next((name for name in self.devices if self.iot_id(name) == iot_id), None)

    def delete(self, name: Name) -> None:
        """Delete a device, and remember its name.  Raises KeyError."""
        del self.devices[name]
        self.deleted[name] = None
        if len(self.deleted) > MAX_DEVICES:
            del self.deleted[next(iter(self.deleted))]

    def reset(self, name: Name) -> None:
        """ResetThing: the device may register again; its secret stays valid until it does."""
        self.devices[name].reopened = True

    def arrive(self, request: ConnectRequest) -> None:
        """Allow a CONNECT within the rates; else raise AlibabaConnectRefused.

        The rates are those of the account and of the device ("Limits").
        """
        if not self._connects.admits(self.clock(), self._all, _SECOND):
            raise AlibabaConnectRefused(ConnackCode.SERVER_UNAVAILABLE)
        if (device := self.devices.get(request.name)) is None:
            return
        if not device.connects.admits(self.clock(), self._rate, _MINUTE):
            device.ledger.over_rate += 1
            with self._counting(request):
                raise AlibabaConnectRefused(ConnackCode.SERVER_UNAVAILABLE)

    def elsewhere(self, request: ConnectRequest) -> NoReturn:
        """Refuse a CONNECT to a region or an instance that does not have the product."""
        refused = ConnackCode.BAD_CREDENTIALS if request.registers else ConnackCode.NOT_AUTHORIZED
        with self._counting(request):
            raise AlibabaConnectRefused(refused)

    def strike(self, name: Name, fault: str) -> None:
        """Count a fault that replaces or spoils an answer."""
        if device := self.devices.get(name):
            device.ledger.faults[fault] += 1

    def register(self, request: ConnectRequest) -> RegistrationPush:
        """Issue a new secret, which invalidates the older.  Raises AlibabaConnectRefused."""
        with self._counting(request):
            if request.auth_type is AlibabaAuthType.REGISTER_UNLISTED:
                return self._register_unlisted(request)
            device = self._device(request, ConnackCode.BAD_CREDENTIALS)
            self._check_product(request)
            self._check_node(request, ConnackCode.BAD_CREDENTIALS)
            if not device.may_register:
                raise AlibabaConnectRefused(ConnackCode.NOT_AUTHORIZED)
            return RegistrationPush(
                "/ext/register", _names(request) | {"deviceSecret": self.issue(request.name)}
            )

    def issue(self, name: Name) -> str:
        """Issue a new secret to a device, which invalidates the older.  Raises KeyError."""
        secret = self._random(16).hex()
        self.devices[name].issue(secret, self.clock())
        return secret

    def admit(self, name: Name) -> None:
        """Log a device in: its secret is spent from now on.  Raises KeyError."""
        device = self.devices[name]
        device.spent = True
        device.ledger.logged_in(self.clock())

    def login(self, request: ConnectRequest) -> None:
        """Log a device in that proves itself.  Raises AlibabaConnectRefused."""
        with self._counting(request):
            device = self._device(request, ConnackCode.NOT_AUTHORIZED)
            self._check_node(request, ConnackCode.NOT_AUTHORIZED)
            if device.disabled or not _proven(request, device):
                raise AlibabaConnectRefused(ConnackCode.NOT_AUTHORIZED)
            self.admit(request.name)

    def _register_unlisted(self, request: ConnectRequest) -> RegistrationPush:
        """Issue a client id and a token, and create the device if it is new.

        This is for direct devices only (74006), and not for one that has a secret of its own.
        """
        self._check_product(request)
        direct = self.products[request.product_key].node is AlibabaNodeType.DIRECT
        if not self._unlisted or not direct or not well_named(request.device_name):
            raise AlibabaConnectRefused(ConnackCode.BAD_CREDENTIALS)
        if request.name not in self.devices:
            if len(self.devices) >= MAX_DEVICES:
                raise AlibabaConnectRefused(ConnackCode.SERVER_UNAVAILABLE)
            self.create(request.name)
        device = self._device(request, ConnackCode.BAD_CREDENTIALS)
        activated = device.spent and device.secret is not None
        if device.disabled or activated or len(device.tokens) >= SHARERS:
            raise AlibabaConnectRefused(ConnackCode.NOT_AUTHORIZED)
        client_id, token = self._random(8).hex(), self._random(32).hex()
        device.tokens[client_id] = token
        device.ledger.issued(token, self.clock())
        granted = {"clientId": client_id, "deviceToken": token}
        return RegistrationPush("/ext/regnwl", _names(request) | granted)

    def _device(self, request: ConnectRequest, unknown: ConnackCode) -> AlibabaDevice:
        if (device := self.devices.get(request.name)) is None:
            raise AlibabaConnectRefused(unknown)
        return device

    def _check_product(self, request: ConnectRequest) -> None:
        """Check the product's secret, and that registration is switched on."""
        product = self.products.get(request.product_key)
        if product is None or not request.signed_with(product.secret) or not product.dynamic:
            raise AlibabaConnectRefused(ConnackCode.BAD_CREDENTIALS)

    def _check_node(self, request: ConnectRequest, code: ConnackCode) -> None:
        """Check that devices of the product connect for themselves."""
        if self.products[request.product_key].node is AlibabaNodeType.SUB_DEVICE:
            raise AlibabaConnectRefused(code)

    @contextmanager
    def _counting(self, request: ConnectRequest) -> Iterator[None]:
        try:
            yield
        except AlibabaConnectRefused as refusal:
            if device := self.devices.get(request.name):
                device.ledger.refused(refusal.code, registration=request.registers)
            else:
                self.strangers[refusal.code] += 1
            raise


def _names(request: ConnectRequest) -> dict[str, str]:
    return {"productKey": request.product_key, "deviceName": request.device_name}


def _proven(request: ConnectRequest, device: AlibabaDevice) -> bool:
    """Whether a login proves the newest secret, or the token of its client id."""
    if request.auth_type is AlibabaAuthType.LOGIN_UNLISTED:
        token = device.tokens.get(request.client_id, "")
        return bool(token) and hmac.compare_digest(token.encode(), request.password.encode())
    return device.secret is not None and request.signed_with(device.secret)
