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


def _create_app(request: ManagementRequest) -> ManagementAnswer:
    return _app(request.instance.apps.create(request.body.demand("app_name")))


def _list_apps(request: ManagementRequest) -> ManagementAnswer:
    default = request.query.flag("default_app")
    found = [one for one in request.instance.apps.list() if default in (None, one.default)]
    return {"applications": [_app(one) for one in found]}


def _show_app(request: ManagementRequest) -> ManagementAnswer:
    return _app(request.instance.apps.get(request.path["app_id"]))


def _update_app(request: ManagementRequest) -> ManagementAnswer:
    return _app(
        request.instance.apps.rename(request.path["app_id"], request.body.demand("app_name"))
    )


def _delete_app(request: ManagementRequest) -> None:
    request.instance.apps.delete(request.path["app_id"])


def _app(app: ResourceSpace) -> Mapping[str, object]:
    return {
        "app_id": app.app_id,
        "app_name": app.name,
        "create_time": times.basic(app.created),
        "default_app": app.default,
    }


def _create_product(request: ManagementRequest) -> ManagementAnswer:
    body = request.body
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
    return _whole(request.instance, request.instance.products.create(**new))


def _list_products(request: ManagementRequest) -> ManagementAnswer:
    query, products = request.query, request.instance.products
    found = products.list(query.text("app_id"), query.text("product_name"))
    return page("products", found, query, lambda one: _summary(request.instance, one))


def _show_product(request: ManagementRequest) -> ManagementAnswer:
    products, product_id = request.instance.products, request.path["product_id"]
    return _whole(request.instance, products.get(product_id, request.query.text("app_id")))


def _update_product(request: ManagementRequest) -> ManagementAnswer:
    body, product_id = request.body, request.path["product_id"]
    changes: dict[str, object] = {
        name: value for name in _PRODUCT_TEXTS if (value := body.text(name)) is not None
    }
    if body.any("service_capabilities") is not None:
        changes["service_capabilities"] = body.listed("service_capabilities", dict)
    products = request.instance.products
    return _whole(request.instance, products.update(product_id, changes, body.text("app_id")))


def _delete_product(request: ManagementRequest) -> None:
    request.instance.products.delete(request.path["product_id"], request.query.text("app_id"))


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
