"""The account of a plant: what its operator does over the control socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatewayd.simulator.account import LOOPBACK, AccountOptions
from gatewayd.simulator.alibaba import account
from gatewayd.simulator.alibaba.account import MODEL, PRODUCT, READING, SimulatedAlibabaAccount
from tests.simulator.alibaba.client import connect_packet, logging_in
from tests.simulator.alibaba.gateway import Gateway
from tests.simulator.wire import trusting, wire
from tests.support.simulated_ca import AUTHORITY, NOW

CHILD = "TH20-0001A7"


@contextlib.asynccontextmanager
async def served(node: str = "direct") -> AsyncIterator[SimulatedAlibabaAccount]:
    options = AccountOptions((CHILD,), node, LOOPBACK, "good", AUTHORITY, NOW, 5)
    async with SimulatedAlibabaAccount(options) as one:
        yield one


async def do(one: SimulatedAlibabaAccount, verb: str, **request: Any) -> Any:
    return await one.verbs[verb]({"child": CHILD, **request})


async def test_a_reading_fits_the_model_or_does_not() -> None:
    async with served() as one:
        assert await do(one, "report") == ""
        assert [report["values"] for report in await do(one, "reports")] == [READING]
        await do(one, "model", tsl={**MODEL, "properties": MODEL["properties"][:1]})
        assert "RelativeHumidity" in await do(one, "report")
        assert one.ledger(CHILD)["misfits"].keys() == {"RelativeHumidity"}
        with pytest.raises(KeyError):
            await do(one, "report", child="unknown")


async def test_an_operator_commands_a_child() -> None:
    async with served() as one:
        with pytest.raises(ConnectionError):
            await do(one, "set_properties", values={"ReportInterval": 60})
        secret = await do(one, "secret")
        facts: Any = one.facts()
        who = logging_in(CHILD, secret).but(product=PRODUCT, options={"_ss": "1"})
        async with wire(facts["port"], trusting(), connect_packet(who)) as connection:
            assert await connection.code() == 0
            child = Gateway(connection, CHILD)
            for verb, method, request in (
                (
                    "set_properties",
                    "thing/service/property/set",
                    {"values": {"ReportInterval": 60}},
                ),
                ("invoke", "thing/service/Calibrate", {"service": "Calibrate"}),
            ):
                waiting = asyncio.create_task(do(one, verb, **request))
                topic = f"/sys/{PRODUCT}/{CHILD}/{method}"
                command = await child.receive(topic)
                child.send(f"{topic}_reply", {"id": command["id"], "code": 200, "data": {}})
                assert await waiting == {"code": 200, "data": {}}


async def test_a_child_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "ANSWER", 0.05)
    async with served() as one:
        facts: Any = one.facts()
        who = logging_in(CHILD, await do(one, "secret")).but(product=PRODUCT, options={"_ss": "1"})
        async with wire(facts["port"], trusting(), connect_packet(who)) as connection:
            assert await connection.code() == 0
            with pytest.raises(TimeoutError):
                await do(one, "set_properties", values={"ReportInterval": 60})
