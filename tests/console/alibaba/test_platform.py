"""Answers of the platform that take long, fail, or are not what the vendor documents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gatewayd.console.access_key import AccessKey
from gatewayd.console.alibaba import provisioning
from gatewayd.console.alibaba.dialect import AlibabaDialect
from gatewayd.console.alibaba.platform import IotNode, IotPlatform
from gatewayd.console.client import ConsoleClient
from gatewayd.console.steps import all_of
from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError
from gatewayd.network.tls import Server, client_context
from tests.cloud.conftest import Client, serve_script
from tests.support.simulated_ca import AUTHORITY, CERTIFICATE

Answers = Callable[[str], Any]
"""Returns the answer to a call, by its name: its members beside Success."""
CHECKED = {"BatchCheckDeviceNames": {"Data": {"ApplyId": 7}}}
NONE: dict[str, Any] = {"BatchQueryDeviceDetail": {"Data": {"Data": []}}}


@asynccontextmanager
async def platform(answers: Answers, folder: Path) -> AsyncIterator[IotPlatform]:
    """The platform, whose waits take no time."""

    async def script(client: Client) -> None:
        head = await client.reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        await client.reader.readexactly(length)
        query = parse_qs(urlsplit(head.split()[1].decode()).query)
        body = json.dumps({"Success": True, **answers(query["Action"][0])}).encode()
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def pass_by(_seconds: float) -> None:
        await asyncio.sleep(0)

    (folder / "ca.pem").write_text(AUTHORITY.pem)
    async with serve_script(script, CERTIFICATE.server_context()) as broker:
        context = await asyncio.to_thread(client_context, folder / "ca.pem")
        client = ConsoleClient(
            Server("localhost", broker.port, context, 30.0, 30.0),
            AlibabaDialect(AccessKey("testid", Secret(b"testsecret"))),
            dry_run=False, clock=lambda: 1_780_000_000.0, random=bytes, jitter=lambda: 0.5,
        )  # fmt: skip
        yield IotPlatform(client, "", pass_by)


def states(*of: str, **more: Any) -> Answers:
    """Answers to the calls of a batch, whose states follow each other; the last one stays."""
    left = list(of)

    def answer(action: str) -> Any:
        if action == "QueryBatchRegisterDeviceStatus":
            state = left.pop(0) if len(left) > 1 else left[0]
            return {"Data": {"Status": state, "InvalidList": {"Name": ["pump-2"]}}}
        return {**NONE, **CHECKED, **more}.get(action, {})

    return answer


async def registering(answers: Answers, folder: Path) -> list[tuple[str, str]]:
    async with platform(answers, folder) as one:
        steps = await all_of(provisioning.register(one, "a1Product", ["pump-1", "pump-2"]))
    return [(step.outcome.value, step.name) for step in steps]


async def test_a_batch_is_waited_for(tmp_path: Path) -> None:
    slow = states("CHECK", "CHECK", "CHECK_SUCCESS", "CREATE", "CREATE", "CREATE_SUCCESS")
    assert await registering(slow, tmp_path) == [("made", "pump-1 to pump-2")]


async def test_a_batch_that_is_never_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provisioning, "MAX_POLLS", 3)
    with pytest.raises(ConsoleError, match="is not done yet: the platform is slow"):
        await registering(states("CHECK"), tmp_path)


async def test_names_that_the_platform_refuses(tmp_path: Path) -> None:
    with pytest.raises(ConsoleError, match=r"the platform refuses 1 of them \(pump-2\)"):
        await registering(states("CHECK_FAILED"), tmp_path)


async def test_devices_that_could_not_be_made(tmp_path: Path) -> None:
    failed = states("CHECK_SUCCESS", "CREATE_FAILED")
    with pytest.raises(ConsoleError, match=r"1 of 2 names were not registered.*\(pump-2\)"):
        await registering(failed, tmp_path)


def looked_up(*names: list[str]) -> Iterator[Any]:
    for found in names:
        yield {"Data": {"Data": [{"DeviceName": name, "DeviceSecret": "x"} for name in found]}}


async def test_what_others_register_meanwhile_is_there(tmp_path: Path) -> None:
    found = looked_up([], ["pump-2"])
    batch = states("CHECK_FAILED", "CHECK_SUCCESS", "CREATE_SUCCESS")

    def answer(action: str) -> Any:
        return next(found) if action == "BatchQueryDeviceDetail" else batch(action)

    assert await registering(answer, tmp_path) == [("made", "pump-1"), ("present", "pump-2")]


async def test_all_that_others_register_meanwhile(tmp_path: Path) -> None:
    found = looked_up([], ["pump-1", "pump-2"])
    batch = states("CHECK_FAILED")

    def answer(action: str) -> Any:
        return next(found) if action == "BatchQueryDeviceDetail" else batch(action)

    assert await registering(answer, tmp_path) == [("present", "pump-1 to pump-2")]


CALLS: dict[str, Callable[[IotPlatform], Awaitable[object]]] = {
    "products": lambda one: one.products(),
    "product": lambda one: one.product("a1Product"),
    "present": lambda one: one.present("a1Product", ["pump-1"]),
    "check": lambda one: one.check("a1Product", ["pump-1"]),
    "batch": lambda one: one.batch("a1Product", "7"),
    "device": lambda one: one.device("a1Product", "pump-1"),
}
ODD: tuple[dict[str, Any], ...] = (
    {"Data": 1},
    {"Data": "x"},
    {"Data": ["x", None]},
    {"Data": {"List": None, "Status": None, "ApplyId": "x", "ProductSecret": 1, "Data": "x"}},
    {"Data": {"List": {"ProductInfo": [1]}, "Status": [], "Data": [[]], "ProductSecret": []}},
    {"Data": {"List": {"ProductInfo": [{"ProductKey": {}}]}, "Status": 1, "Data": {"Data": 1}}},
)


async def test_an_answer_that_is_not_documented_is_an_error_that_says_so(tmp_path: Path) -> None:
    now: dict[str, Any] = {}
    async with platform(lambda _: now, tmp_path) as one:
        for odd in ODD:
            now = odd
            for name, call in CALLS.items():
                with pytest.raises(ConsoleError, match=r"in the answer is missing, or not what"):
                    pytest.fail(f"{name} took {odd}: {await call(one)}")


async def test_members_that_are_left_out(tmp_path: Path) -> None:
    answers: dict[str, Any] = {
        "QueryProductList": {"Data": {"List": {"ProductInfo": [{"ProductKey": "a1Product"}]}}},
        "BatchQueryDeviceDetail": {"Data": []},
        "CreateProduct": {"Data": {"ProductKey": "a1New"}},
        "QueryDeviceDetail": {"Data": {"Status": "online"}},
        "GetThingModelTslPublished": {},
    }
    async with platform(answers.__getitem__, tmp_path) as one:
        (product,) = await one.products()
        assert (product.key, product.name, product.devices) == ("a1Product", "", 0)
        assert await one.present("a1Product", ["pump-1"]) == set()
        assert await one.make_product("New_1", IotNode.DIRECT) == "a1New"
        device = await one.device("a1Product", "pump-1")
        assert device is not None
        assert (device.status, device.activated) == ("ONLINE", "")
        assert await one.published_model("a1Product") == ""
