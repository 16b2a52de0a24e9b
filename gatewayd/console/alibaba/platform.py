"""The calls to Alibaba Cloud IoT Platform of an owner who prepares products and devices.

Sources: the vendor's pages on the calls, CreateProduct (help.aliyun.com/document_detail/69123),
QueryProductList (69271), QueryProduct (69272), BatchQueryDeviceDetail (123470),
BatchCheckDeviceNames (69482), QueryBatchRegisterDeviceStatus (69483),
BatchRegisterDeviceWithApplyId (69514), QueryDeviceDetail (69594), ResetThing (155680),
DeleteDevice (69281), ImportThingModelTsl (150320), PublishThingModel (150311) and
GetThingModelTslPublished (178361).

Many of their answers have secrets of devices.  Those are dropped where an answer is read: gatewayd
has each child's own issued to itself, by dynamic registration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gatewayd.console.alibaba.device_names import in_batches
from gatewayd.console.alibaba.dialect import call, numbered
from gatewayd.console.alibaba.refusals import NO_DEVICE
from gatewayd.console.client import Answer, ApiRequest, ConsoleClient
from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError, ConsoleRefused

PAGE = 200
"""Products on a page: the most that the API shows."""
MAX_PAGES = 10
"""Pages that are read: twice the products that an instance may have."""
LOOK_UP = 100
"""Devices that are looked up by one call: the most that the API takes."""
PAUSE = 0.25
"""Seconds between two such calls, of which the API allows five in a second."""


UNACTIVE = "UNACTIVE"
"""The status of a device that was never online."""


class IotNode(StrEnum):
    """The node type of a product, as the console names them."""

    DIRECT = "direct"
    GATEWAY = "gateway"
    SUB_DEVICE = "sub-device"


@dataclass(frozen=True, slots=True)
class IotProduct:
    """A product.

    gateway: whether its devices are gateways.  protocol: by which they are behind one; "" for
    devices that connect for themselves, and in the list of products, which does not show it.
    devices: how many it has.
    """

    key: str
    name: str
    gateway: bool
    protocol: str
    devices: int

    @property
    def node(self) -> IotNode:
        """The node type of one that is not from the list."""
        if self.gateway:
            return IotNode.GATEWAY
        return IotNode.SUB_DEVICE if self.protocol else IotNode.DIRECT


@dataclass(frozen=True, slots=True)
class IotDevice:
    """A device, without its secret.

    status: UNACTIVE, "ONLINE", "OFFLINE" or "DISABLE".
    activated, online: when it was first and last online, UTC; "" for never.
    """

    name: str
    status: str
    activated: str = ""
    online: str = ""


class BatchState(StrEnum):
    """The state of a batch of names, as the API names them."""

    CHECK = "CHECK"
    CHECKED = "CHECK_SUCCESS"
    CHECK_FAILED = "CHECK_FAILED"
    CREATE = "CREATE"
    CREATED = "CREATE_SUCCESS"
    CREATE_FAILED = "CREATE_FAILED"


RUNNING = frozenset({BatchState.CHECK, BatchState.CREATE})


@dataclass(frozen=True, slots=True)
class IotBatch:
    """A batch of names.  invalid: those that were not checked, or not made."""

    state: BatchState
    invalid: tuple[str, ...] = ()


class IotPlatform:
    """The calls, on one instance.

    instance: its ID; "" where the console shows none.  sleep: waits so many seconds.
    """

    def __init__(
        self,
        client: ConsoleClient,
        instance: str,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.client, self.sleep = client, sleep
        self._instance = {"IotInstanceId": instance} if instance else {}

    async def products(self) -> list[IotProduct]:
        """Return the products.  Raises ConsoleError."""
        found: list[IotProduct] = []
        for page in range(1, MAX_PAGES + 1):
            query = {"PageSize": str(PAGE), "CurrentPage": str(page)}
            request = self._call("QueryProductList", query, shown="The list of products")
            data = _member(request, await self.client.read(request), "Data", dict)
            listed = _listed(request, _member(request, data, "List", dict), "ProductInfo")
            found += [_product(request, one) for one in listed]
            if page >= _count(data.get("PageCount")):
                break
        return found

    async def product(self, key: str) -> tuple[IotProduct, Secret]:
        """Return a product and its secret, which gatewayd's configuration needs.

        Raises ConsoleError.
        """
        request = self._call("QueryProduct", {"ProductKey": key}, shown=f"Product {key}")
        data = _member(request, await self.client.read(request), "Data", dict)
        secret = _member(request, data, "ProductSecret", str)
        return _product(request, data), Secret(secret.encode())

    async def make_product(self, name: str, node: IotNode) -> str:
        """Make a product with a thing model, and return its key; "" in a dry run.

        A device of a gateway needs a protocol; the one of the LAN is gatewayd's business, so it is
        "customize".  Raises ConsoleError.
        """
        query = {
            "ProductName": name,
            "NodeType": "1" if node is IotNode.GATEWAY else "0",
            "AliyunCommodityCode": "iothub_senior",
            "DataFormat": "1",
        }
        if node is IotNode.SUB_DEVICE:
            query["ProtocolType"] = "customize"
        request = self._call("CreateProduct", query, shown=f"CreateProduct {name} ({node})")
        answer = await self.client.change(request, {"ProductKey": "", "Data": {"ProductKey": ""}})
        data = answer.get("Data")
        inner = data.get("ProductKey") if isinstance(data, Mapping) else None
        return str(answer.get("ProductKey") or inner or "")

    async def published_model(self, product: str) -> str:
        """Return the thing model of a product, as JSON; "" where it has none.

        Raises ConsoleError.
        """
        query = {"ProductKey": product, "Simple": "false"}
        shown = f"The thing model of product {product}"
        request = self._call("GetThingModelTslPublished", query, shown=shown)
        data = (await self.client.read(request)).get("Data")
        return str(data.get("TslStr") or "") if isinstance(data, Mapping) else ""

    async def publish_model(self, product: str, tsl: str) -> None:
        """Replace the thing model of a product.  tsl: JSON, for this product.

        Raises ConsoleError.
        """
        query = {"ProductKey": product}
        shown = f"ImportThingModelTsl {product}".rstrip()
        request = self._call("ImportThingModelTsl", query, {"TslStr": tsl}, shown=shown)
        await self.client.change(request)
        shown = f"PublishThingModel {product}".rstrip()
        await self.client.change(self._call("PublishThingModel", query, shown=shown))

    async def present(self, product: str, names: Sequence[str]) -> set[str]:
        """Return those of the names that the product has.  Raises ConsoleError."""
        found: set[str] = set()
        for number, batch in enumerate(in_batches(names, LOOK_UP)):
            if number:
                await self.sleep(PAUSE)
            query = {"ProductKey": product} | numbered("DeviceName", batch)
            shown = f"The look-up of {len(batch)} devices"
            request = self._call("BatchQueryDeviceDetail", query, shown=shown)
            listed = _listed(request, await self.client.read(request), "Data")
            found |= {str(one.get("DeviceName")) for one in listed}
        return found.intersection(names)

    async def check(self, product: str, names: Sequence[str]) -> str:
        """Have names checked, and return the number of their batch.  Raises ConsoleError.

        It makes no device: what it leaves behind is a number that is never used.
        """
        request = self._call(
            "BatchCheckDeviceNames",
            {"ProductKey": product},
            numbered("DeviceName", names),
            shown=f"BatchCheckDeviceNames of {len(names)} names",
        )
        data = _member(request, await self.client.change(request, {"Data": {"ApplyId": 0}}),
                       "Data", dict)  # fmt: skip
        return str(_member(request, data, "ApplyId", int))

    async def batch(self, product: str, number: str) -> IotBatch:
        """Return the state of a batch.  Raises ConsoleError."""
        request = self._call(
            "QueryBatchRegisterDeviceStatus",
            {"ProductKey": product, "ApplyId": number},
            shown=f"The state of batch {number}",
        )
        data = _member(request, await self.client.read(request), "Data", dict)
        try:
            state = BatchState(str(data.get("Status")))
        except ValueError:
            raise _unknown(request, "Status") from None
        invalid = data.get("InvalidList")
        listed = invalid.get("Name") if isinstance(invalid, Mapping) else invalid
        return IotBatch(state, tuple(map(str, listed if isinstance(listed, list) else ())))

    async def register(self, product: str, number: str, count: int) -> None:
        """Have the devices of a batch made; that goes on after the answer.  Raises ConsoleError."""
        query = {"ProductKey": product, "ApplyId": number}
        shown = f"BatchRegisterDeviceWithApplyId of {count} names"
        await self.client.change(self._call("BatchRegisterDeviceWithApplyId", query, shown=shown))

    async def device(self, product: str, name: str) -> IotDevice | None:
        """Return a device; None where the product has none of the name.  Raises ConsoleError."""
        request = self._of_device("QueryDeviceDetail", product, name)
        try:
            data = _member(request, await self.client.read(request), "Data", dict)
        except ConsoleRefused as refused:
            if refused.code == NO_DEVICE:
                return None
            raise
        status = _member(request, data, "Status", str).upper()
        times = (str(data.get(one) or "") for one in ("UtcActive", "UtcOnline"))
        return IotDevice(name, status, *times)

    async def reset(self, product: str, name: str) -> None:
        """Let a device register once more, and detach it from its gateway.  Raises ConsoleError."""
        await self.client.change(self._of_device("ResetThing", product, name))

    async def delete(self, product: str, name: str) -> None:
        """Delete a device.  Raises ConsoleError."""
        await self.client.change(self._of_device("DeleteDevice", product, name))

    def _of_device(self, action: str, product: str, name: str) -> ApiRequest:
        query = {"ProductKey": product, "DeviceName": name}
        return self._call(action, query, shown=f"{action} {product} {name}")

    def _call(
        self,
        action: str,
        query: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        *,
        shown: str,
    ) -> ApiRequest:
        return call(action, {**query, **self._instance}, form, shown=shown)


def _product(request: ApiRequest, data: Mapping[str, Any]) -> IotProduct:
    return IotProduct(
        _member(request, data, "ProductKey", str),
        str(data.get("ProductName") or ""),
        data.get("NodeType") == 1,
        str(data.get("ProtocolType") or ""),
        _count(data.get("DeviceCount")),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _listed(request: ApiRequest, data: Answer, name: str) -> list[Mapping[str, Any]]:
    """Return a list of objects; the API leaves an empty one out, or puts it into an object."""
    found = data.get(name) or []
    if isinstance(found, Mapping):
        found = found.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise _unknown(request, name)
    return found


def _member(request: ApiRequest, data: Answer, name: str, kind: type[Any]) -> Any:  # noqa: ANN401  # of that kind
    found = data.get(name)
    if not isinstance(found, kind):
        raise _unknown(request, name)
    return found


def _unknown(request: ApiRequest, name: str) -> ConsoleError:
    return ConsoleError(
        f"{request.shown} cannot be read: {name} in the answer is missing, or not what the vendor "
        "documents. Check --endpoint and --region"
    )
