"""Names that are registered many at a time at the simulated Alibaba cloud: checked, then made.

Sources: the vendor's pages "BatchCheckDeviceNames" (help.aliyun.com/document_detail/69482),
"BatchRegisterDeviceWithApplyId" (69514), "QueryBatchRegisterDeviceStatus" (69483) and
"QueryPageByApplyId" (69518).  That a name which the product has already fails the check is our
reading: a name must be unique within the product.  Devices are made at once; that they are is shown
later, as it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatewayd.simulator.alibaba.alink import well_named
from gatewayd.simulator.alibaba.open_api.parameters import (
    NO_PRODUCT,
    Answer,
    OpenApiFailure,
    Parameters,
    demand,
    numbered,
    page_of,
    pages,
)
from gatewayd.simulator.alibaba.registry import AlibabaRegistry

MAX_NAMES = 10_000
"""Names in one batch; an older page has 1,000."""
MAX_BATCHES = 1_000
"""Batches that are remembered, the newest."""
FIRST_NUMBER = 1_295_006
_PAGE, _USUAL = 50, (1, 10)

NO_BATCH = OpenApiFailure("iot.device.DeviceApplyIsNotFound", "The ApplyId is not found.")
BAD_NUMBER = OpenApiFailure("iot.device.InvalidFormattedApplyId", "The ApplyId is incorrect.")
RUNNING = OpenApiFailure(
    "iot.device.CreateDeviceTaskIsRunning", "The device creation task is still in progress."
)
NOT_CHECKED = OpenApiFailure(
    "iot.device.ApplyManyDevicesFailed", "Failed to batch register devices."
)
DONE_BEFORE = OpenApiFailure(
    "iot.device.IncorrentDeviceApplyInfo", "The device application information is not correct."
)
NONE_NAMED = OpenApiFailure(
    "iot.device.NoneDeviceNameElement", "The device name list cannot be empty."
)


@dataclass(slots=True)
class NameBatch:
    """A batch.  until: when what is under way is done; invalid: names that it failed for."""

    product: str
    names: Sequence[str]
    until: float
    invalid: tuple[str, ...] = ()
    creates: bool = False

    def status(self, now: float) -> str:
        """Return the state as the vendor names it."""
        what = "CREATE" if self.creates else "CHECK"
        if now < self.until:
            return what
        return f"{what}_FAILED" if self.invalid else f"{what}_SUCCESS"


class NameBatches:
    """The batches.  clock: seconds.  seconds: that a check takes, and likewise the making."""

    def __init__(
        self, registry: AlibabaRegistry, clock: Callable[[], float], seconds: float
    ) -> None:
        self._registry, self._clock, self._seconds = registry, clock, seconds
        self._batches: dict[int, NameBatch] = {}
        self._last = FIRST_NUMBER

    def check(self, parameters: Parameters) -> Answer:
        """Begin a batch.  Raises OpenApiFailure, OpenApiRefused."""
        product = demand(parameters, "ProductKey")
        if product not in self._registry.products:
            raise NO_PRODUCT
        named = numbered(parameters, "DeviceNameList", ".DeviceName")
        names = named or numbered(parameters, "DeviceName")
        if not names:
            raise NONE_NAMED
        if len(names) > MAX_NAMES:
            raise NOT_CHECKED
        if wrong := [name for name in names if not well_named(name)]:
            raise OpenApiFailure(
                "iot.device.InvalidFormattedDeviceName",
                "The format of the device name is invalid.",
                {"Data": {"InvalidDeviceNameList": {"InvalidDeviceName": wrong}}},
            )
        seen, invalid = set[str](), []
        for name in names:
            if name in seen or (product, name) in self._registry.devices:
                invalid.append(name)
            seen.add(name)
        self._last += 1
        self._batches[self._last] = NameBatch(
            product, names, self._clock() + self._seconds, tuple(invalid)
        )
        if len(self._batches) > MAX_BATCHES:
            del self._batches[next(iter(self._batches))]
        return {"Data": {"ApplyId": self._last}}

    def register(self, parameters: Parameters) -> Answer:
        """Make the devices of a batch.  Raises OpenApiFailure, OpenApiRefused."""
        number, batch = self._batch(parameters, of_product=True)
        status = batch.status(self._clock())
        if status in ("CHECK", "CREATE"):
            raise RUNNING
        if batch.creates:
            raise DONE_BEFORE
        if batch.invalid:
            raise NOT_CHECKED
        batch.creates, batch.until = True, self._clock() + self._seconds
        failed = []
        for name in batch.names:
            if (batch.product, name) in self._registry.devices:
                failed.append(name)
                continue
            try:
                self._registry.create((batch.product, name))
            except OverflowError:
                failed.append(name)
        batch.invalid = tuple(failed)
        return {"Data": {"ApplyId": number}}

    def status(self, parameters: Parameters) -> Answer:
        """Return the state of a batch.  Raises OpenApiFailure, OpenApiRefused."""
        _, batch = self._batch(parameters, of_product=True)
        status = batch.status(self._clock())
        failed = status.endswith("_FAILED")
        invalid = list(batch.invalid) if failed else []
        valid = [name for name in batch.names if name not in set(invalid)] if failed else []
        return {
            "Data": {
                "Status": status,
                "ValidList": {"Name": valid},
                "InvalidList": {"Name": invalid},
            }
        }

    def page(self, parameters: Parameters) -> Answer:
        """Return devices of a batch, with their secrets.  Raises OpenApiFailure, OpenApiRefused."""
        _, batch = self._batch(parameters, of_product=False)
        number, size = page_of(parameters, ("CurrentPage", "PageSize"), _PAGE, _USUAL)
        made = [
            (batch.product, name)
            for name in batch.names
            if batch.creates and (batch.product, name) in self._registry.devices
        ]
        listed = [
            {
                "DeviceName": name[1],
                "DeviceId": self._registry.iot_id(name)[:20],
                "IotId": self._registry.iot_id(name),
                "DeviceSecret": self._registry.secret_of(name),
            }
            for name in made[(number - 1) * size : number * size]
        ]
        return {
            "Page": number,
            "PageSize": size,
            "PageCount": pages(len(made), size),
            "Total": len(made),
            "ApplyDeviceList": {"ApplyDeviceInfo": listed},
        }

    def _batch(self, parameters: Parameters, *, of_product: bool) -> tuple[int, NameBatch]:
        product = demand(parameters, "ProductKey") if of_product else None
        text = demand(parameters, "ApplyId")
        if not (text.isascii() and text.isdecimal() and len(text) <= len(str(1 << 63))):
            raise BAD_NUMBER
        batch = self._batches.get(int(text))
        if batch is None or product not in (None, batch.product):
            raise NO_BATCH
        return int(text), batch
