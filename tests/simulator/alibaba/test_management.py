"""The owner's calls about products and devices: as strict as the vendor's pages."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.open_api.management import (
    LIMITS,
    OpenApiManagement,
    OpenApiOptions,
)
from gatewayd.simulator.alibaba.open_api.parameters import OpenApiFailure
from gatewayd.simulator.alibaba.open_api.signature import OpenApiRefused
from tests.simulator.alibaba.client import PRODUCT, PRODUCT_SECRET
from tests.simulator.alibaba.gateway import CHILD, CHILDREN, GATEWAY, GATEWAYS, SENSORS, Clock, site

WALL = 1_780_000_000.0
SUB_DEVICES = {"AliyunCommodityCode": "iothub_senior", "DataFormat": "1"}


@dataclass
class Owner:
    """The owner's program, without signatures and without a network."""

    options: OpenApiOptions = field(default_factory=lambda: OpenApiOptions("cn-shanghai"))
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.cloud: AlibabaCloud = site(clock=self.clock)
        self.calls = OpenApiManagement(self.cloud, wall=lambda: WALL, options=self.options)

    def ask(self, action: str, **parameters: Any) -> Any:
        given = {name: str(value) for name, value in parameters.items()}
        self.clock.now += 1
        return self.calls.answer({"Action": action, **given})

    def data(self, action: str, **parameters: Any) -> Any:
        return self.ask(action, **parameters)["Data"]

    def code(self, action: str, **parameters: Any) -> str:
        expected: Any = (OpenApiFailure, OpenApiRefused)
        with pytest.raises(expected) as raised:
            self.ask(action, **parameters)
        refused: OpenApiFailure | OpenApiRefused = raised.value
        return refused.code

    def check(self, *names: str, product: str = PRODUCT) -> int:
        named = {f"DeviceName.{number}": name for number, name in enumerate(names, 1)}
        return int(self.data("BatchCheckDeviceNames", ProductKey=product, **named)["ApplyId"])


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_a_product_is_made_with_dynamic_registration_off(owner: Owner) -> None:
    made = owner.ask("CreateProduct", NodeType=0, ProductName="Sensors_1", ProtocolType="customize",
                     **SUB_DEVICES)  # fmt: skip
    key = made["ProductKey"]
    product = owner.cloud.registry.products[key]
    assert (product.dynamic, str(product.node)) == (False, "sub-device")
    shown = owner.data("QueryProduct", ProductKey=key)
    assert shown["ProductSecret"] == product.secret == made["Data"]["ProductSecret"]
    assert (shown["NodeType"], shown["ProtocolType"]) == (0, "customize")
    listed = owner.data("QueryProductList", CurrentPage=1, PageSize=2)
    assert [one["ProductName"] for one in listed["List"]["ProductInfo"]] == ["Sensors_1", PRODUCT]
    assert (listed["Total"], listed["PageCount"]) == (4, 2)
    assert not any("ProductSecret" in one for one in listed["List"]["ProductInfo"])
    empty = owner.data("QueryProductList", CurrentPage=3, PageSize=2)["List"]["ProductInfo"]
    assert empty == [], "behind the last page"
    owner.cloud.set_dynreg(key, on=True)
    assert product.dynamic, "the console has the switch"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"ProductName": ""}, "MissingProductName"),
        ({"NodeType": ""}, "MissingNodeType"),
        ({"NodeType": "2"}, "iot.prod.InvalidNodeType"),
        ({"ProductName": "abc"}, "iot.prod.InvalidFormattedProductName"),
        ({"ProductName": "a" * 31}, "iot.prod.InvalidFormattedProductName"),
        ({"ProductName": "传" * 16}, "iot.prod.InvalidFormattedProductName"),
        ({"ProductName": "a-b-c"}, "iot.prod.InvalidFormattedProductName"),
        ({"ProductName": "Taken"}, "iot.prod.AlreadyExistedProductName"),
        ({"Description": "x" * 101}, "iot.prod.LongProductDesc"),
        ({"AliyunCommodityCode": "iot"}, "iot.prod.InvalidAliyunCommodityCode"),
        ({"AliyunCommodityCode": "iothub_senior"}, "iot.check.InvalidFormattedParameter"),
        ({"ProtocolType": "modbus"}, "iot.check.InvalidFormattedParameter"),
        ({"ProtocolType": "x", **SUB_DEVICES}, "iot.check.InvalidFormattedParameter"),
        ({"NodeType": "1", "ProtocolType": "ble", **SUB_DEVICES},
         "iot.check.InvalidFormattedParameter"),
        ({"NetType": "LORA"}, "iot.check.InvalidFormattedParameter"),
    ],
)  # fmt: skip
def test_a_product_that_is_refused(owner: Owner, changed: dict[str, str], code: str) -> None:
    owner.ask("CreateProduct", NodeType=0, ProductName="Taken")
    good = {"NodeType": "0", "ProductName": "传感器_1"}
    assert owner.code("CreateProduct", **{**good, **changed}) == code
    assert owner.ask("CreateProduct", **good)["ProductKey"]


def test_names_are_checked_then_made(owner: Owner) -> None:
    number = owner.check("TH20-0001A7", "pump@hall:3")
    status = {"ProductKey": PRODUCT, "ApplyId": number}
    owner.clock.now -= 1  # within the time that the check takes
    seen = [owner.data("QueryBatchRegisterDeviceStatus", **status)["Status"] for _ in range(2)]
    assert seen == ["CHECK", "CHECK_SUCCESS"]
    assert owner.data("BatchRegisterDeviceWithApplyId", **status) == {"ApplyId": number}
    owner.clock.now -= 1
    assert owner.code("BatchRegisterDeviceWithApplyId", **status) == (
        "iot.device.CreateDeviceTaskIsRunning"
    )
    done = owner.data("QueryBatchRegisterDeviceStatus", **status)
    assert done == {
        "Status": "CREATE_SUCCESS", "ValidList": {"Name": []}, "InvalidList": {"Name": []},
    }  # fmt: skip
    assert owner.code("BatchRegisterDeviceWithApplyId", **status) == (
        "iot.device.IncorrentDeviceApplyInfo"
    )
    page = owner.ask("QueryPageByApplyId", ApplyId=number, PageSize=1, CurrentPage=2)
    assert (page["Total"], page["PageCount"]) == (2, 2)
    (one,) = page["ApplyDeviceList"]["ApplyDeviceInfo"]
    assert one["DeviceName"] == "pump@hall:3"
    assert owner.cloud.secret(PRODUCT, "pump@hall:3") == one["DeviceSecret"]
    assert owner.cloud.registry.devices[PRODUCT, "pump@hall:3"].ledger.registrations == 0


def test_names_that_fail_the_check(owner: Owner) -> None:
    number = owner.check("direct-1", "new-1", "new-2", "new-2")
    status = {"ProductKey": PRODUCT, "ApplyId": number}
    found = owner.data("QueryBatchRegisterDeviceStatus", **status)
    assert found["Status"] == "CHECK_FAILED"
    assert found["InvalidList"]["Name"] == ["direct-1", "new-2"]
    assert found["ValidList"]["Name"] == ["new-1"]
    assert owner.code("BatchRegisterDeviceWithApplyId", **status) == (
        "iot.device.ApplyManyDevicesFailed"
    )


def test_a_name_that_was_taken_meanwhile_is_not_made_again(owner: Owner) -> None:
    number = owner.check("new-1", "new-2")
    owner.ask("RegisterDevice", ProductKey=PRODUCT, DeviceName="new-1")
    status = {"ProductKey": PRODUCT, "ApplyId": number}
    owner.ask("BatchRegisterDeviceWithApplyId", **status)
    found = owner.data("QueryBatchRegisterDeviceStatus", **status)
    assert (found["Status"], found["InvalidList"]) == ("CREATE_FAILED", {"Name": ["new-1"]})


def test_a_batch_that_is_refused(owner: Owner) -> None:
    named = {"ProductKey": PRODUCT, "DeviceName.1": "ok-1"}
    for changed, code in (
        ({"ProductKey": "a1Unknown"}, "iot.prod.NotExistedProduct"),
        ({"DeviceName.1": "abc"}, "iot.device.InvalidFormattedDeviceName"),
        ({"DeviceName.1": "a" * 33}, "iot.device.InvalidFormattedDeviceName"),
        ({"DeviceNameList.1.DeviceName": "a b c"}, "iot.device.InvalidFormattedDeviceName"),
        ({"ProductKey": ""}, "MissingProductKey"),
    ):
        assert owner.code("BatchCheckDeviceNames", **{**named, **changed}) == code
    assert owner.code("BatchCheckDeviceNames", ProductKey=PRODUCT) == (
        "iot.device.NoneDeviceNameElement"
    )
    number = owner.check("ok-1")
    for product, apply, code in (
        (PRODUCT, "x", "iot.device.InvalidFormattedApplyId"),
        (PRODUCT, number + 1, "iot.device.DeviceApplyIsNotFound"),
        (SENSORS, number, "iot.device.DeviceApplyIsNotFound"),
        (PRODUCT, "", "MissingApplyId"),
    ):
        given = {"ProductKey": product, "ApplyId": apply}
        assert owner.code("QueryBatchRegisterDeviceStatus", **given) == code
    for size in ("0", "51", "x"):
        assert owner.code("QueryPageByApplyId", ApplyId=number, PageSize=size) == (
            "iot.common.InvalidPageParams"
        )


def test_one_device(owner: Owner) -> None:
    made = owner.data("RegisterDevice", ProductKey=PRODUCT, DeviceName="pump-1")
    shown = owner.data("QueryDeviceDetail", IotId=made["IotId"])
    assert (shown["DeviceName"], shown["Status"]) == ("pump-1", "UNACTIVE")
    assert shown["DeviceSecret"] == made["DeviceSecret"]
    assert (shown["UtcCreate"], shown["UtcActive"]) == ("2026-05-28T20:26:39.000Z", "")
    again = {"ProductKey": PRODUCT, "DeviceName": "pump-1"}
    assert owner.code("RegisterDevice", **again) == "iot.device.AlreadyExistedDeviceName"
    assert owner.code("RegisterDevice", ProductKey=PRODUCT, DeviceName="x") == (
        "iot.device.InvalidFormattedDeviceName"
    )
    assert len(owner.data("RegisterDevice", ProductKey=PRODUCT)["DeviceName"]) == 20
    owner.cloud.registry.admit((PRODUCT, "pump-1"))
    assert owner.data("QueryDeviceDetail", **again)["Status"] == "OFFLINE"
    owner.cloud.disable(PRODUCT, "pump-1")
    assert owner.data("QueryDeviceDetail", **again)["Status"] == "DISABLE"
    assert owner.ask("DeleteDevice", **again) == {}
    for action in ("DeleteDevice", "QueryDeviceDetail", "ResetThing"):
        assert owner.code(action, **again) == "iot.device.NotExistedDevice"
    assert owner.code("QueryDeviceDetail", IotId=made["IotId"]) == "iot.device.NotExistedDevice"


def test_a_reset_lets_a_device_register_once_more(owner: Owner) -> None:
    device = owner.cloud.registry.devices[SENSORS, CHILD]
    owner.cloud.attach((GATEWAYS, GATEWAY), (SENSORS, CHILD))
    owner.cloud.registry.issue((SENSORS, CHILD))
    owner.cloud.registry.admit((SENSORS, CHILD))
    assert not device.may_register
    assert owner.ask("ResetThing", ProductKey=SENSORS, DeviceName=CHILD) == {}
    assert device.may_register
    assert owner.data("QueryDeviceDetail", ProductKey=SENSORS, DeviceName=CHILD)["Status"] == (
        "OFFLINE"
    ), "a reset is not seen by any call"


def test_devices_are_looked_up_many_at_a_time(owner: Owner) -> None:
    names = [*CHILDREN[:3], "unknown-1"]
    named = {f"DeviceName.{number}": name for number, name in enumerate(names, 1)}
    found = owner.data("BatchQueryDeviceDetail", ProductKey=SENSORS, **named)["Data"]
    assert [one["DeviceName"] for one in found] == CHILDREN[:3]
    many = {f"DeviceName.{number}": f"name-{number}" for number in range(101)}
    assert owner.code("BatchQueryDeviceDetail", ProductKey=SENSORS, **many) == (
        "iot.check.InvalidFormattedParameter"
    )


def test_a_model_counts_once_it_is_published(owner: Owner) -> None:
    named = {"ProductKey": SENSORS}
    wanted = {"profile": {"productKey": SENSORS}, "properties": [
        {"identifier": "Temperature", "accessMode": "r", "dataType": {"type": "double"}},
    ]}  # fmt: skip
    assert owner.code("PublishThingModel", **named) == "iot.check.InvalidFormattedParameter"
    product = owner.cloud.registry.products[SENSORS]
    assert owner.ask("ImportThingModelTsl", **named, TslStr=json.dumps(wanted)) == {}
    assert not product.model.properties
    assert owner.data("GetThingModelTslPublished", **named)["TslStr"] == ""
    assert owner.ask("PublishThingModel", **named, ModelVersion="v1.0.0") == {}
    assert product.model.properties.keys() == {"Temperature"}
    assert json.loads(owner.data("GetThingModelTslPublished", **named)["TslStr"]) == wanted
    for text in ("", "{", "[]", '{"profile": {"productKey": "a1Other"}}', json.dumps(
        {**wanted, "properties": [{"identifier": "x", "dataType": {"type": "complex"}}]}
    )):  # fmt: skip
        code = owner.code("ImportThingModelTsl", **named, TslStr=text)
        assert code in ("MissingTslStr", "iot.check.InvalidFormattedParameter")
    for changed in ({"ModelVersion": "v 1"}, {"Description": "x" * 101}):
        assert owner.code("PublishThingModel", **named, **changed) == (
            "iot.check.InvalidFormattedParameter"
        )
    assert owner.code("PublishThingModel", ProductKey="a1Unknown") == "iot.prod.NotExistedProduct"


def test_calls_in_a_second_are_limited(owner: Owner) -> None:
    named = {"ProductKey": SENSORS, "DeviceName.1": CHILD, "Action": "BatchQueryDeviceDetail"}
    for _ in range(LIMITS["BatchQueryDeviceDetail"]):
        owner.calls.answer(named)
    with pytest.raises(OpenApiRefused) as raised:
        owner.calls.answer(named)
    assert raised.value.code == "Throttling.User"
    owner.clock.now += 1
    assert owner.calls.answer(named)


def test_an_instance_has_an_id_or_has_none() -> None:
    one = Owner(OpenApiOptions("cn-shanghai", instance_id="iot-060a0bgd"))
    page = {"CurrentPage": 1, "PageSize": 10}
    assert one.code("QueryProductList", **page) == "iot.system.InstanceNotFound"
    assert one.data("QueryProductList", **page, IotInstanceId="iot-060a0bgd")["Total"] == 3
    other = Owner()
    assert other.code("QueryProductList", **page, IotInstanceId="iot-060a0bgd") == (
        "iot.system.InstanceNotFound"
    )


def test_what_an_owner_made_outlives_a_restart(owner: Owner) -> None:
    key = owner.ask("CreateProduct", NodeType=1, ProductName="Gateways")["ProductKey"]
    owner.ask("RegisterDevice", ProductKey=key, DeviceName="gateway-9")
    state = owner.cloud.state()
    later = Owner()
    later.cloud.go_on(state)
    assert later.data("QueryProduct", ProductKey=key)["DeviceCount"] == 1
    assert later.data("QueryProduct", ProductKey=PRODUCT)["ProductSecret"] == PRODUCT_SECRET
