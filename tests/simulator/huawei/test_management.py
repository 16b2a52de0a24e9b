"""The management interface: who is let in, which instance, pages, errors, and spaces."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.simulator.huawei.management.rest import Fields, read_body
from gatewayd.simulator.huawei.management.server import MAX_BODY, ROUTES, Management
from gatewayd.simulator.huawei.platform.errors import PlatformError
from gatewayd.simulator.huawei.platform.limits import InstanceLimits
from tests.simulator.huawei.client import GATEWAY, SENSORS, furnish, served
from tests.simulator.huawei.rest import PROJECT, TOKEN, Rest, manage, managed
from tests.simulator.wire import PATIENCE, trusting
from tests.support.simulated_ca import AUTHORITY

NOWHERE = "The API does not exist or has not been published in the environment"


async def test_a_token_lets_in_and_its_lack_does_not(rest: Rest) -> None:
    assert (await rest.ask("GET", "/apps"))[0] == 200
    status, said = await rest.ask("GET", "/apps", headers={"X-Auth-Token": "wrong"})
    assert (status, said["error_code"]) == (401, "APIGW.0301")
    for header in ("", "Basic QWxhZGRpbg==", "SDK-HMAC-SHA256 Access=a"):
        headers = {"Authorization": header}
        target = f"/v5/iot/{PROJECT}/apps"
        status, said = await asyncio.to_thread(rest._ask, "GET", target, b"", headers)
        assert (status, said["error_code"]) == (401, "APIGW.0301")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nowhere"), ("PATCH", "/apps"), ("GET", "/devices/a/b"), ("POST", "/devices/a/fly")],
)
async def test_what_is_not_there(rest: Rest, method: str, path: str) -> None:
    assert await rest.ask(method, path) == (404, {"error_code": "APIG.0101", "error_msg": NOWHERE})


async def test_every_path_needs_authentication(rest: Rest) -> None:
    for method, path, _, _ in ROUTES:
        status, _ = await rest.ask(method, path.replace("{", "").replace("}", ""), headers={
            "X-Auth-Token": "wrong"
        })  # fmt: skip
        assert status == 401


async def test_a_request_that_is_too_large(rest: Rest) -> None:
    status, said = await rest.ask("POST", "/apps", b" " * (MAX_BODY + 1))
    assert (status, said["error_code"]) == (413, "APIG.0201")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"1", b"[" * 100_000, b'{"app_name": NaN}', b'{"a": "\\ud800"}', b"\xff"]
)
async def test_a_body_that_is_no_object(rest: Rest, body: bytes) -> None:
    status, said = await rest.ask("POST", "/apps", body)
    assert (status, said["error_code"]) == (400, "IOTDA.000008")


async def test_the_newest_tls_and_no_stranger(rest: Rest) -> None:
    _, writer = await asyncio.open_connection(
        "127.0.0.1", rest.port, ssl=trusting(AUTHORITY.pem),
        server_hostname="one.st1.iotda-app.cn-north-4.myhuaweicloud.com",
    )  # fmt: skip
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.close()
    await writer.wait_closed()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(
            "127.0.0.1", rest.port, ssl=trusting(AUTHORITY.pem), server_hostname="else.example"
        )


async def test_half_a_request_does_not_keep_the_server() -> None:
    head = f"POST /v5/iot/{PROJECT}/apps HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    async with managed() as rest:
        reader, writer = await asyncio.open_connection(
            "localhost", rest.port, ssl=trusting(AUTHORITY.pem)
        )
        writer.write(head.encode() + b"{")
        assert (await rest.ask("GET", "/apps"))[0] == 200
    async with asyncio.timeout(PATIENCE):
        assert await reader.read() == b""
    writer.close()


async def test_which_instance_is_meant(rest: Rest) -> None:
    furnish(rest.cloud.platform.create("two")).products.delete(SENSORS)
    host = "{}.st1.iotda-app.cn-north-4.myhuaweicloud.com:8443"

    async def products(**headers: str) -> Any:
        status, said = await rest.ask("GET", "/products", headers=headers)
        return said["page"]["count"] if status == 200 else (status, said["error_code"])

    assert await products() == (403, "IOTDA.000902")
    assert await products(**{"Instance-Id": "one"}) == 2
    assert await products(**{"Instance-Id": "two"}) == 1
    assert await products(Host=host.format("two")) == 1
    assert await products(**{"Instance-Id": "three"}) == (404, "IOTDA.000901")
    assert await products(Host=host.format("three")) == (403, "IOTDA.000902")


async def test_pages(rest: Rest) -> None:
    for number in range(25):
        await rest.post("/devices", {"node_id": f"node-{number}", "product_id": SENSORS})
    first = await rest.get("/devices", product_id=SENSORS)
    assert [one["node_id"] for one in first["devices"]] == [f"node-{n}" for n in range(24, 14, -1)]
    assert first["page"]["count"] == 25
    marker = first["page"]["marker"]
    second = await rest.get("/devices", product_id=SENSORS, marker=marker, limit=12, offset=2)
    assert [one["node_id"] for one in second["devices"]] == [f"node-{n}" for n in range(12, 0, -1)]
    assert second["page"]["count"] == 25
    after = second["page"]["marker"]
    last = await rest.get("/devices", product_id=SENSORS, marker=after, limit=50)
    assert [one["node_id"] for one in last["devices"]] == ["node-0"]
    end = await rest.get("/devices", product_id=SENSORS, marker=last["page"]["marker"])
    assert end == {"devices": [], "page": {"count": 25, "marker": None}}


@pytest.mark.parametrize(("query", "code"), [
    ({"limit": 0}, 17), ({"limit": 51}, 17), ({"limit": "many"}, 6), ({"offset": 501}, 6),
    ({"offset": -1}, 6), ({"marker": "f" * 23}, 18), ({"limit": "9" * 11}, 6),
    ({"marker": "F" * 24}, 18),
])  # fmt: skip
async def test_a_page_that_there_is_not(rest: Rest, query: dict[str, Any], code: int) -> None:
    status, said = await rest.ask("GET", "/products", **query)
    assert (status, said["error_code"]) == (400, f"IOTDA.{code:06}")
    assert next(iter(query)) in said["error_msg"]


async def test_the_number_of_products_is_that_of_a_resource_space() -> None:
    async with served(limits=InstanceLimits(products=2)) as cloud, manage(cloud) as rest:
        new = {"name": "more", "device_type": "x", "protocol_type": "MQTT", "data_format": "json",
               "service_capabilities": []}  # fmt: skip
        status, said = await rest.ask("POST", "/products", new)
        assert (status, said["error_code"]) == (403, "IOTDA.013904")
        space = await rest.post("/apps", {"app_name": "another"})
        await rest.post("/products", new | {"app_id": space["app_id"]})


async def test_who_asks_too_often_is_put_off() -> None:
    async with (
        served() as cloud,
        Management(
            cloud.platform, authority=AUTHORITY, credentials={}, token=TOKEN, rate=3
        ) as management,
    ):
        rest = Rest(cloud, management.port)
        answers = [await rest.ask("GET", "/products") for _ in range(4)]
        assert [status for status, _ in answers] == [200, 200, 200, 429]
        assert answers[-1][1]["error_code"] == "APIG.0308"


async def test_spaces(rest: Rest) -> None:
    made = await rest.post("/apps", {"app_name": "plant"})
    app_id, created = made["app_id"], "20260102T030405Z"
    plant = {"app_id": app_id, "app_name": "plant", "create_time": created, "default_app": False}
    assert made == plant
    assert await rest.get(f"/apps/{app_id}") == plant
    assert (await rest.get("/apps", default_app="false"))["applications"] == [plant]
    (default,) = (await rest.get("/apps", default_app="true"))["applications"]
    assert default["default_app"]
    assert len((await rest.get("/apps"))["applications"]) == 2
    assert (await rest.put(f"/apps/{app_id}", {"app_name": "mill"}))["app_name"] == "mill"
    await rest.delete(f"/apps/{app_id}")
    status, said = await rest.ask("DELETE", f"/apps/{default['app_id']}")
    assert (status, said["error_code"]) == (403, "IOTDA.001902")


async def test_products(rest: Rest) -> None:
    app_id = (await rest.post("/apps", {"app_name": "plant"}))["app_id"]
    service = {"service_id": "climate", "service_type": "climate", "properties": []}
    new = {
        "name": "Thermometer", "device_type": "thermometer", "protocol_type": "MQTT",
        "data_format": "json", "service_capabilities": [service], "industry": "agriculture",
        "manufacturer_name": "acme", "app_id": app_id, "product_id": "th-20",
    }  # fmt: skip
    made = await rest.post("/products", new)
    assert made | new == made
    assert set(made) - set(new) == {"app_name", "create_time", "description"}
    assert made["app_name"] == "plant"
    assert await rest.get("/products/th-20") == made
    assert await rest.get("/products/th-20", app_id=app_id) == made
    (listed,) = (await rest.get("/products", product_name="Thermometer"))["products"]
    assert listed == {key: value for key, value in made.items() if key != "service_capabilities"}
    assert (await rest.get("/products", app_id=app_id))["page"]["count"] == 1
    await rest.delete("/products/th-20")


async def test_a_product_is_changed(rest: Rest) -> None:
    before = await rest.get(f"/products/{SENSORS}")
    changes = {"name": "Sensor", "description": "of the mill", "service_capabilities": []}
    after = await rest.put(f"/products/{SENSORS}", changes)
    assert after == before | changes
    assert await rest.get(f"/products/{SENSORS}") == after
    again = await rest.put(f"/products/{SENSORS}", {"industry": "mills", "name": None})
    assert again == after | {"industry": "mills"}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": None}, {"name": 1}, {"protocol_type": ["MQTT"]}, {"data_format": "xml"},
        {"service_capabilities": None}, {"service_capabilities": {}},
        {"service_capabilities": ["climate"]},
    ],
)  # fmt: skip
async def test_invalid_products(rest: Rest, changes: dict[str, object]) -> None:
    new = {"name": "x", "device_type": "x", "protocol_type": "MQTT", "data_format": "json"}
    status, said = await rest.ask("POST", "/products", new | {"service_capabilities": []} | changes)
    assert (status, said["error_code"]) == (400, "IOTDA.000006")
    assert (await rest.get("/products"))["page"]["count"] == 2


async def test_a_product_in_use_stays(rest: Rest) -> None:
    product = GATEWAY.partition("_")[0]
    status, said = await rest.ask("DELETE", f"/products/{product}")
    assert (status, said["error_code"]) == (400, "IOTDA.013903")


WORDS = ("true", "false")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def refusal(read: Callable[[], object]) -> dict[str, str]:
    """Return what is refused with; {} where it is not."""
    try:
        read()
    except PlatformError as error:
        return error.body
    return {}


@given(JSON)
def test_fields_of_any_kind(value: object) -> None:
    fields = Fields({"x": value})
    wrong = {"error_code": "IOTDA.000006", "error_msg": "Invalid input data. (x)"}
    for kind, read in (
        (str, fields.text), (bool, fields.flag), (dict, fields.inner), (list, fields.objects),
    ):  # fmt: skip
        said = refusal(partial(read, "x"))
        assert said in ({}, wrong)
        assert said == wrong or value is None or isinstance(value, kind) or value in WORDS
    assert refusal(lambda: fields.number("x", 7)) in ({}, wrong)


@given(st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_or_refused(data: bytes) -> None:
    assert refusal(lambda: read_body(data)).get("error_code", "") in ("", "IOTDA.000008")
