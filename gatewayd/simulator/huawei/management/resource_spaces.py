"""Resource spaces and products at the simulated Huawei platform's management interface.  Pure.

Source: the vendor's APIs "Resource space management" and "Product management" (api-iothub).
"""

from __future__ import annotations

from collections.abc import Mapping

from gatewayd.simulator.huawei import times
from gatewayd.simulator.huawei.management.rest import (
    ManagementAnswer,
    ManagementRequest,
    ManagementRoute,
    page,
)
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.platform.resource_spaces import (
    HuaweiProduct,
    NewProduct,
    ResourceSpace,
)

_PRODUCT_TEXTS = (
    "name", "device_type", "protocol_type", "data_format", "manufacturer_name", "industry",
    "description",
)  # fmt: skip


def _create_app(call: ManagementRequest) -> ManagementAnswer:
    return _app(call.instance.apps.create(call.body.demand("app_name")))


def _list_apps(call: ManagementRequest) -> ManagementAnswer:
    default = call.query.flag("default_app")
    found = [one for one in call.instance.apps.list() if default in (None, one.default)]
    return {"applications": [_app(one) for one in found]}


def _show_app(call: ManagementRequest) -> ManagementAnswer:
    return _app(call.instance.apps.get(call.path["app_id"]))


def _update_app(call: ManagementRequest) -> ManagementAnswer:
    return _app(call.instance.apps.rename(call.path["app_id"], call.body.demand("app_name")))


def _delete_app(call: ManagementRequest) -> None:
    call.instance.apps.delete(call.path["app_id"])


def _app(app: ResourceSpace) -> Mapping[str, object]:
    return {
        "app_id": app.app_id,
        "app_name": app.name,
        "create_time": times.basic(app.created),
        "default_app": app.default,
    }


def _create_product(call: ManagementRequest) -> ManagementAnswer:
    body = call.body
    new = NewProduct(
        name=body.demand("name"),
        device_type=body.demand("device_type"),
        protocol_type=body.demand("protocol_type"),
        data_format=body.demand("data_format"),
        product_id=body.text("product_id"),
        app_id=body.text("app_id"),
        manufacturer_name=body.text("manufacturer_name"),
        industry=body.text("industry"),
        description=body.text("description"),
        service_capabilities=body.listed("service_capabilities", dict),
    )
    return _whole(call.instance, call.instance.products.create(**new))


def _list_products(call: ManagementRequest) -> ManagementAnswer:
    query, products = call.query, call.instance.products
    found = products.list(query.text("app_id"), query.text("product_name"))
    return page("products", found, query, lambda one: _summary(call.instance, one))


def _show_product(call: ManagementRequest) -> ManagementAnswer:
    products, product_id = call.instance.products, call.path["product_id"]
    return _whole(call.instance, products.get(product_id, call.query.text("app_id")))


def _update_product(call: ManagementRequest) -> ManagementAnswer:
    body, product_id = call.body, call.path["product_id"]
    changes: dict[str, object] = {
        name: value for name in _PRODUCT_TEXTS if (value := body.text(name)) is not None
    }
    if body.any("service_capabilities") is not None:
        changes["service_capabilities"] = body.listed("service_capabilities", dict)
    products = call.instance.products
    return _whole(call.instance, products.update(product_id, changes, body.text("app_id")))


def _delete_product(call: ManagementRequest) -> None:
    call.instance.products.delete(call.path["product_id"], call.query.text("app_id"))


def _summary(instance: IotdaInstance, product: HuaweiProduct) -> dict[str, object]:
    return {
        "app_id": product.app_id,
        "app_name": instance.apps.get(product.app_id).name,
        "product_id": product.product_id,
        "create_time": times.basic(product.created),
        **{name: getattr(product, name) for name in _PRODUCT_TEXTS},
    }


def _whole(instance: IotdaInstance, product: HuaweiProduct) -> Mapping[str, object]:
    services = {"service_capabilities": product.service_capabilities}
    return _summary(instance, product) | services


ROUTES: tuple[ManagementRoute, ...] = (
    ("POST", "/apps", 201, _create_app),
    ("GET", "/apps", 200, _list_apps),
    ("GET", "/apps/{app_id}", 200, _show_app),
    ("PUT", "/apps/{app_id}", 200, _update_app),
    ("DELETE", "/apps/{app_id}", 204, _delete_app),
    ("POST", "/products", 201, _create_product),
    ("GET", "/products", 200, _list_products),
    ("GET", "/products/{product_id}", 200, _show_product),
    ("PUT", "/products/{product_id}", 200, _update_product),
    ("DELETE", "/products/{product_id}", 204, _delete_product),
)
