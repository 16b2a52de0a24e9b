"""The calls to the simulated Alibaba cloud by which an owner prepares products and devices.

Sources: the vendor's pages on CreateProduct (help.aliyun.com/document_detail/69123),
QueryProductList (69271), QueryProduct (69272), RegisterDevice (69470), QueryDeviceDetail (69594),
BatchQueryDeviceDetail (123470), ResetThing (155680) and DeleteDevice (69281), and its table of
error codes (87387).  No call switches dynamic registration on: a product is made with it off, and
the console has the switch (74006).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gatewayd.simulator.alibaba.alink import well_named
from gatewayd.simulator.alibaba.console import AlibabaConsole
from gatewayd.simulator.alibaba.devices import (
    AlibabaDevice,
    AlibabaNodeType,
    Name,
    SimulatedAlibabaProduct,
)
from gatewayd.simulator.alibaba.open_api.batches import NameBatches
from gatewayd.simulator.alibaba.open_api.models import ThingModelCalls
from gatewayd.simulator.alibaba.open_api.parameters import (
    NO_DEVICE,
    NO_PRODUCT,
    Answer,
    OpenApiFailure,
    Parameters,
    chosen,
    demand,
    malformed,
    numbered,
    page_of,
    pages,
)
from gatewayd.simulator.alibaba.open_api.signature import OpenApiRefused
from gatewayd.simulator.rate_window import RateWindow

MAX_PRODUCTS = 1_000
MAX_DESCRIPTION = 100
MAX_LOOKED_UP = 100
PRODUCTS_ON_A_PAGE = 200
_SECOND = 1.0

LIMITS: Mapping[str, int] = {
    "CreateProduct": 50,
    "QueryProductList": 50,
    "QueryProduct": 50,
    "RegisterDevice": 30,
    "BatchCheckDeviceNames": 10,
    "BatchRegisterDeviceWithApplyId": 500,
    "QueryBatchRegisterDeviceStatus": 30,
    "QueryPageByApplyId": 50,
    "QueryDeviceDetail": 50,
    "BatchQueryDeviceDetail": 5,
    "ResetThing": 500,
    "ImportThingModelTsl": 5,
    "PublishThingModel": 5,
    "GetThingModelTslPublished": 20,
}
"""Calls of the account in a second, as their pages have it."""

_PRODUCT_NAME = re.compile(r"[A-Za-z0-9_\u4e00-\u9fff]+")
_NAME_WIDTH = range(4, 31)
_NICKNAME_WIDTH = range(4, 65)
_NODES = {"0": AlibabaNodeType.DIRECT, "1": AlibabaNodeType.GATEWAY}
_PROTOCOLS = ("modbus", "opc-ua", "customize", "ble", "zigbee")
_NETS = ("WIFI", "CELLULAR", "ETHERNET", "OTHER")
_EDITIONS = ("iothub_senior", "iothub")

THROTTLED = OpenApiRefused(400, "Throttling.User", "Request was denied due to user flow control.")
NAME_TAKEN = OpenApiFailure(
    "iot.device.AlreadyExistedDeviceName", "The device name already exists."
)
BAD_NAME = OpenApiFailure(
    "iot.device.InvalidFormattedDeviceName", "The format of the device name is invalid."
)
FULL = OpenApiFailure(
    "iot.device.DeviceCountExceeded", "Number of devices requested exceeds the maximum limit."
)
_NO_INSTANCE = OpenApiFailure("iot.system.InstanceNotFound", "The instance does not exist.")


@dataclass(frozen=True, slots=True)
class OpenApiOptions:
    """The options of the calls.

    region: in the name of the endpoint, and shown of each device.
    instance_id: that calls must have; "" where the instance has none.
    limited: whether the calls in a second are.
    batch_seconds: that the check of many names takes, and their devices do; there it is minutes.
    tokens: security tokens, by access keys that are temporary.
    """

    region: str
    instance_id: str = ""
    limited: bool = True
    batch_seconds: float = 0.2
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)


class OpenApiManagement:
    """The calls about products and devices.

    wall: seconds since 1970.
    """

    def __init__(
        self,
        console: AlibabaConsole,
        *,
        wall: Callable[[], float],
        options: OpenApiOptions,
    ) -> None:
        self._console, self._registry = console, console.registry
        self._wall, self._region, self._instance = wall, options.region, options.instance_id
        self._limits = LIMITS if options.limited else {}
        self._windows: dict[str, RateWindow] = {action: RateWindow() for action in LIMITS}
        batches = NameBatches(self._registry, self._registry.clock, options.batch_seconds)
        models = ThingModelCalls(self._registry)
        self._calls: Mapping[str, Callable[[Parameters], Answer]] = {
            "CreateProduct": self._create_product,
            "QueryProductList": self._list_products,
            "QueryProduct": self._show_product,
            "RegisterDevice": self._register,
            "BatchCheckDeviceNames": batches.check,
            "BatchRegisterDeviceWithApplyId": batches.register,
            "QueryBatchRegisterDeviceStatus": batches.status,
            "QueryPageByApplyId": batches.page,
            "QueryDeviceDetail": self._show,
            "BatchQueryDeviceDetail": self._look_up,
            "ResetThing": self._reset,
            "DeleteDevice": self._delete,
            "ImportThingModelTsl": models.import_tsl,
            "PublishThingModel": models.publish,
            "GetThingModelTslPublished": models.published,
        }

    def answer(self, parameters: Parameters) -> Answer | None:
        """Do what a call demands; None for one that is none of these.

        Raises OpenApiFailure, OpenApiRefused.
        """
        action = parameters["Action"]
        if (call := self._calls.get(action)) is None:
            return None
        limit, window = self._limits.get(action, 0), self._windows.get(action)
        if window and not window.admits(self._registry.clock(), limit, _SECOND):
            raise THROTTLED
        if parameters.get("IotInstanceId", "") != self._instance:
            raise _NO_INSTANCE
        return call(parameters)

    def _create_product(self, parameters: Parameters) -> Answer:
        name, node = demand(parameters, "ProductName"), demand(parameters, "NodeType")
        if node not in _NODES:
            raise OpenApiFailure("iot.prod.InvalidNodeType", "The node type is invalid.")
        if not _PRODUCT_NAME.fullmatch(name) or _width(name) not in _NAME_WIDTH:
            raise OpenApiFailure(
                "iot.prod.InvalidFormattedProductName", "The format of the ProductName is invalid."
            )
        description = parameters.get("Description", "")
        if len(description) > MAX_DESCRIPTION:
            raise OpenApiFailure(
                "iot.prod.LongProductDesc", "The product description exceeds the maximum limit."
            )
        protocol = _protocol(parameters)
        products = self._registry.products
        if name in (one.name or key for key, one in products.items()):
            raise OpenApiFailure(
                "iot.prod.AlreadyExistedProductName", "The same product name already exists."
            )
        if len(products) >= MAX_PRODUCTS:
            raise OpenApiFailure(
                "iot.prod.ProductCountExceedMax", "The number of products exceeds the limit."
            )
        kind = AlibabaNodeType.SUB_DEVICE if protocol else _NODES[node]
        made = SimulatedAlibabaProduct(
            "", kind, name=name, description=description, protocol=protocol
        )
        key = self._registry.make_product(made)
        return {"ProductKey": key, "Data": self._product(key, made)}

    def _list_products(self, parameters: Parameters) -> Answer:
        """List the products, the newest first."""
        most = PRODUCTS_ON_A_PAGE
        number, size = page_of(parameters, ("CurrentPage", "PageSize"), most)
        edition = chosen(parameters, "AliyunCommodityCode", _EDITIONS)
        found = [] if edition == "iothub" else list(reversed(self._registry.products.items()))
        left_out = ("ProductSecret", "ProtocolType")
        listed = [
            {name: value for name, value in self._product(*one).items() if name not in left_out}
            for one in found[(number - 1) * size : number * size]
        ]
        return {
            "Data": {
                "CurrentPage": number,
                "PageSize": size,
                "PageCount": pages(len(found), size),
                "Total": len(found),
                "List": {"ProductInfo": listed},
            }
        }

    def _show_product(self, parameters: Parameters) -> Answer:
        key = demand(parameters, "ProductKey")
        if (product := self._registry.products.get(key)) is None:
            raise NO_PRODUCT
        return {"Data": self._product(key, product)}

    def _product(self, key: str, product: SimulatedAlibabaProduct) -> Answer:
        count = sum(1 for name in self._registry.devices if name[0] == key)
        shown: Answer = {
            "ProductKey": key,
            "ProductName": product.name or key,
            "ProductSecret": product.secret,
            "NodeType": int(product.node is AlibabaNodeType.GATEWAY),
            "Description": product.description,
            "AliyunCommodityCode": "iothub_senior",
            "DataFormat": 1,
            "AuthType": "secret",
            "ProductStatus": "DEVELOPMENT_STATUS",
            "DeviceCount": count,
            "GmtCreate": int(self._moment(product.created).timestamp() * 1000),
        }
        if product.node is AlibabaNodeType.SUB_DEVICE:
            shown["ProtocolType"] = product.protocol or "customize"
        return shown

    def _register(self, parameters: Parameters) -> Answer:
        product = demand(parameters, "ProductKey")
        if product not in self._registry.products:
            raise NO_PRODUCT
        nickname = parameters.get("Nickname", "")
        if nickname and _width(nickname) not in _NICKNAME_WIDTH:
            raise malformed("Nickname")
        name = product, parameters.get("DeviceName") or self._registry.new_name()
        if not well_named(name[1]):
            raise BAD_NAME
        if name in self._registry.devices:
            raise NAME_TAKEN
        try:
            self._registry.create(name)
        except OverflowError:
            raise FULL from None
        made: Answer = {
            "ProductKey": product,
            "DeviceName": name[1],
            "DeviceSecret": self._registry.secret_of(name),
            "IotId": self._registry.iot_id(name),
            "Nickname": nickname,
        }
        return {**made, "Data": made}

    def _show(self, parameters: Parameters) -> Answer:
        name, device = self._device(parameters)
        return {"Data": self._shown(name, device)}

    def _look_up(self, parameters: Parameters) -> Answer:
        """Return those devices of a list that there are."""
        product, names = demand(parameters, "ProductKey"), numbered(parameters, "DeviceName")
        if product not in self._registry.products:
            raise NO_PRODUCT
        if not 1 <= len(names) <= MAX_LOOKED_UP:
            raise malformed("DeviceName")
        devices = self._registry.devices
        found = [(product, one) for one in names if (product, one) in devices]
        return {"Data": {"Data": [self._shown(name, devices[name]) for name in found]}}

    def _shown(self, name: Name, device: AlibabaDevice) -> Answer:
        product, ledger = self._registry.products[name[0]], device.ledger
        shown: Answer = {
            "ProductKey": name[0],
            "ProductName": product.name or name[0],
            "DeviceName": name[1],
            "DeviceSecret": self._registry.secret_of(name),
            "IotId": self._registry.iot_id(name),
            "NodeType": int(product.node is AlibabaNodeType.GATEWAY),
            "Region": self._region,
            "Status": self._status(name, device),
        }
        times = {"Create": device.created, "Active": ledger.activation, "Online": ledger.last_login}
        for what, when in times.items():
            moment = None if when is None else self._moment(when)
            shown[f"Utc{what}"] = f"{moment:%Y-%m-%dT%H:%M:%S}.000Z" if moment else ""
            shown[f"Gmt{what}"] = f"{moment:%Y-%m-%d %H:%M:%S}" if moment else ""
        return shown

    def _status(self, name: Name, device: AlibabaDevice) -> str:
        if device.disabled:
            return "DISABLE"
        if self._console.is_online(name):
            return "ONLINE"
        return "UNACTIVE" if device.ledger.activation is None else "OFFLINE"

    def _reset(self, parameters: Parameters) -> Answer:
        name, _ = self._device(parameters)
        self._console.reset(*name)
        return {}

    def _delete(self, parameters: Parameters) -> Answer:
        name, _ = self._device(parameters)
        self._console.delete(*name)
        return {}

    def _device(self, parameters: Parameters) -> tuple[Name, AlibabaDevice]:
        """Return the device that a call is about: its IotId goes before its name."""
        if iot_id := parameters.get("IotId"):
            name = self._registry.of_iot_id(iot_id)
        else:
            name = demand(parameters, "ProductKey"), demand(parameters, "DeviceName")
        if name is None or (device := self._registry.devices.get(name)) is None:
            raise NO_DEVICE
        return name, device

    def _moment(self, when: float) -> datetime:
        """Return a time of the registry's clock as one of the day."""
        return datetime.fromtimestamp(self._wall() - (self._registry.clock() - when), UTC)


def _protocol(parameters: Parameters) -> str:
    """Return by which protocol devices are behind a gateway; "" for those that are not."""
    edition = parameters.get("AliyunCommodityCode", "")
    if edition and edition not in _EDITIONS:
        raise OpenApiFailure(
            "iot.prod.InvalidAliyunCommodityCode", "The value of AliyunCommodityCode is invalid."
        )
    chosen(parameters, "NetType", _NETS)
    data = chosen(parameters, "DataFormat", ("0", "1"))
    protocol = chosen(parameters, "ProtocolType", _PROTOCOLS)
    senior = edition == "iothub_senior"
    if senior and not data:
        raise malformed("DataFormat")
    if protocol and (parameters["NodeType"] != "0" or not senior):
        raise malformed("ProtocolType")
    return protocol


def _width(text: str) -> int:
    """Return the length of a text in which a Chinese or Japanese character counts as two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)
