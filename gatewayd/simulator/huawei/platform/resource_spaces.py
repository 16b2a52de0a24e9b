"""Resource spaces of a Huawei instance, and the products in them.  No I/O.

Source: the vendor's APIs "Resource space management" and "Product management" (api-iothub).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Required, TypedDict, Unpack

from gatewayd.simulator.huawei.exchange import product_model
from gatewayd.simulator.huawei.exchange.product_model import ProductModel
from gatewayd.simulator.huawei.platform import fields
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.ids import Ids

DEFAULT_NAME = "DefaultApp"

PROTOCOLS = frozenset(
    {"MQTT", "CoAP", "HTTP", "HTTPS", "Modbus", "ONVIF", "OPC-UA", "OPC-DA", "Other", "TCP", "UDP"}
)
FORMATS = frozenset({"json", "binary"})
MAX_TOPICS = 50
"""Custom topics of a product (productdesc-iothub/iot_04_0010)."""


@dataclass(slots=True)
class ResourceSpace:
    """A resource space.  created: seconds since 1970."""

    app_id: str
    name: str
    record_id: str
    created: float
    default: bool = False


class ResourceSpaces:
    """The resource spaces of an instance; the default one is always there."""

    def __init__(self, ids: Ids, limit: int) -> None:
        self._ids, self._limit = ids, limit
        self._apps: dict[str, ResourceSpace] = {}
        self.default = self._make(DEFAULT_NAME, default=True)
        self.emptied: Callable[[str], None] = lambda _: None
        self.opened: Callable[[ResourceSpace], None] = lambda _: None

    def create(self, name: str) -> ResourceSpace:
        """Create one.  Raises PlatformError."""
        if len(self._apps) >= self._limit:
            raise PlatformError(IotdaCode.APP_LIMIT)
        app = self._make(fields.check("app_name", name))
        self.opened(app)
        return app

    def get(self, app_id: str) -> ResourceSpace:
        """Return one.  Raises PlatformError."""
        if app := self._apps.get(app_id):
            return app
        raise PlatformError(IotdaCode.UNKNOWN_APP)

    def find(self, app_id: str | None) -> ResourceSpace:
        """Return one; the default one for None.  Raises PlatformError."""
        return self.default if app_id is None else self.get(app_id)

    def list(self) -> Sequence[ResourceSpace]:
        """Return all, the newest first."""
        return list(self._apps.values())[::-1]

    def rename(self, app_id: str, name: str) -> ResourceSpace:
        """Give one another name.  Raises PlatformError."""
        app = self.get(app_id)
        app.name = fields.check("app_name", name)
        return app

    def delete(self, app_id: str) -> None:
        """Delete one with its content; never the default one.  Raises PlatformError."""
        if self.get(app_id).default:
            raise PlatformError(IotdaCode.APP_PROTECTED)
        self.emptied(app_id)
        del self._apps[app_id]

    def _make(self, name: str, *, default: bool = False) -> ResourceSpace:
        app = ResourceSpace(self._ids.plain(), name, self._ids.record(), self._ids.clock(), default)
        self._apps[app.app_id] = app
        return app


@dataclass(slots=True)
class HuaweiProduct:
    """A product.

    created: seconds since 1970.  topics: what may follow $oc/devices/{device_id}/user/.
    profile: what the service_capabilities say.
    """

    product_id: str
    app_id: str
    name: str
    device_type: str
    record_id: str
    created: float
    protocol_type: str = "MQTT"
    data_format: str = "json"
    manufacturer_name: str | None = None
    industry: str | None = None
    description: str | None = None
    service_capabilities: Sequence[object] = field(default_factory=list)
    topics: Sequence[str] = ()
    profile: ProductModel = field(default_factory=ProductModel)

    @property
    def model(self) -> str:
        """The model that a gateway learns of a child's product."""
        return self.device_type


class NewProduct(TypedDict, total=False):
    """The fields of a new product.

    product_id: a new one by default.  app_id: the default resource space by default.
    """

    name: Required[str]
    device_type: Required[str]
    protocol_type: str
    data_format: str
    product_id: str | None
    app_id: str | None
    manufacturer_name: str | None
    industry: str | None
    description: str | None
    service_capabilities: Sequence[object]
    topics: Sequence[str]


class HuaweiProducts:
    """The products of an instance.  limit: of those of one resource space.

    used: whether a product has devices.
    """

    def __init__(self, ids: Ids, apps: ResourceSpaces, limit: int) -> None:
        self.used: Callable[[str], bool] = lambda _: False
        self._ids, self._apps, self._limit = ids, apps, limit
        self._products: dict[str, HuaweiProduct] = {}

    def create(self, **new: Unpack[NewProduct]) -> HuaweiProduct:
        """Create one.  Raises PlatformError."""
        app, record = self._apps.find(new.get("app_id")), self._ids.record()
        if len(self.list(app.app_id)) >= self._limit:
            raise PlatformError(IotdaCode.PRODUCT_LIMIT)
        product = HuaweiProduct(
            fields.optional("product_id", new.get("product_id")) or record,
            app.app_id,
            "",
            "",
            record,
            self._ids.clock(),
        )
        given = {name: value for name, value in new.items() if name not in ("product_id", "app_id")}
        self._change(product, given)
        if product.product_id in self._products:
            raise PlatformError(IotdaCode.PRODUCT_EXISTS)
        self._products[product.product_id] = product
        return product

    def get(self, product_id: str, app_id: str | None = None) -> HuaweiProduct:
        """Return one, in this resource space if it is named.  Raises PlatformError."""
        product = self._products.get(product_id)
        if product is None or app_id not in (None, product.app_id):
            raise PlatformError(IotdaCode.UNKNOWN_PRODUCT)
        return product

    def list(self, app_id: str | None = None, name: str | None = None) -> Sequence[HuaweiProduct]:
        """Return those of a resource space and a name, the newest first."""
        return [
            one
            for one in reversed(self._products.values())
            if app_id in (None, one.app_id) and name in (None, one.name)
        ]

    def update(
        self, product_id: str, changes: Mapping[str, object], app_id: str | None = None
    ) -> HuaweiProduct:
        """Change all but the ids.  Raises PlatformError."""
        product = self.get(product_id, app_id)
        self._change(replace(product), changes)
        self._change(product, changes)
        return product

    def delete(self, product_id: str, app_id: str | None = None) -> None:
        """Delete one that has no devices.  Raises PlatformError."""
        product = self.get(product_id, app_id)
        if self.used(product.product_id):
            raise PlatformError(IotdaCode.PRODUCT_IN_USE)
        del self._products[product.product_id]

    def _change(self, product: HuaweiProduct, changes: Mapping[str, object]) -> None:
        """Check and set fields.  Raises PlatformError."""
        for name, value in changes.items():
            if (check := _CHECKS.get(name)) is None:
                raise PlatformError(IotdaCode.INVALID_INPUT, f"({name})")
            setattr(product, name, check(value))
        product.profile = product_model.read(product.service_capabilities)


def _one_of(known: Container[str]) -> Callable[[object], str]:
    def check(value: object) -> str:
        if isinstance(value, str) and value in known:
            return value
        raise PlatformError(IotdaCode.INVALID_INPUT, "(protocol_type, data_format)")

    return check


def _capabilities(value: object) -> list[object]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    raise PlatformError(IotdaCode.INVALID_INPUT, "(service_capabilities)")


def _topics(value: object) -> object:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) <= MAX_TOPICS:
        return [fields.check("product_topic", one) for one in value]
    raise PlatformError(IotdaCode.INVALID_INPUT, "(topics)")


_CHECKS: Mapping[str, Callable[[object], object]] = {
    "name": partial(fields.check, "product_name"),
    "device_type": partial(fields.check, "device_type"),
    "protocol_type": _one_of(PROTOCOLS),
    "data_format": _one_of(FORMATS),
    "manufacturer_name": partial(fields.optional, "device_type"),
    "industry": partial(fields.optional, "product_name"),
    "description": partial(fields.optional, "product_description"),
    "service_capabilities": _capabilities,
    "topics": _topics,
}
"""Field of a product → its check."""
