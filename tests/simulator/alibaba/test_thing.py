"""The model of a product: what is reported, what an operator commands, and what fits.

Pages: "Device properties, events, and services" (help.aliyun.com/document_detail/89301), "Supported
data types" (358843), and the table of codes (120329).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.alibaba.thing import commands, specification
from gatewayd.simulator.alibaba.thing.commands import ThingCommand, ThingCommands
from gatewayd.simulator.alibaba.thing.reports import ThingReports
from gatewayd.simulator.alibaba.thing.specification import UNKNOWN, ThingModel, TslType
from tests.simulator.alibaba.gateway import (
    CHILD,
    GATEWAY,
    SECOND,
    SENSORS,
    Gateway,
    gateway,
    going_online,
    meaning,
    site,
    topic,
)

POST, SET = "thing.event.property.post", "thing.service.property.set"
HISTORY, PACK = "thing.event.property.history.post", "thing.event.property.pack.post"
BATCH = "thing.event.property.batch.post"
NOW = 1_700_000_000.0
STRUCT = [{"identifier": "x", "dataType": {"type": "int"}}]
TSL: dict[str, Any] = {
    "properties": [
        {"identifier": "Temperature", "accessMode": "r", "dataType": {"type": "double"}},
        {"identifier": "Interval", "accessMode": "rw", "dataType": {"type": "int"}},
        {"identifier": "Light", "accessMode": "rw", "dataType": {"type": "bool"}},
        {
            "identifier": "Place",
            "accessMode": "rw",
            "dataType": {"type": "struct", "specs": STRUCT},
        },
    ],
    "events": [
        {
            "identifier": "Hot",
            "outputData": [{"identifier": "Temperature", "dataType": {"type": "double"}}],
        },
        {"identifier": "post", "outputData": [{"identifier": "Temperature"}]},
    ],
    "services": [
        {
            "identifier": "Restart",
            "callType": "async",
            "inputData": [{"identifier": "Delay", "dataType": {"type": "int"}}],
        }
    ],
}


@contextlib.asynccontextmanager
async def stage() -> AsyncIterator[tuple[AlibabaCloud, Gateway]]:
    """A gateway with two children online, whose topics it has subscribed to."""
    rules = AlibabaRules(child_logins=0, messages=(0, 0))
    async with site(rules, wall=lambda: NOW) as cloud, gateway(cloud.port) as gw:
        cloud.set_model(SENSORS, TSL)
        await gw.listen()
        for name, secret in (await gw.adopt(CHILD, SECOND)).items():
            assert await gw.code("combine.login", going_online(name, secret)) == 200
        for name in (CHILD, SECOND):
            wanted = [own(name, f"thing.{one}") for one in ("event.+.post_reply", "service.+.+")]
            more = [own(name, f"{one}_reply") for one in (HISTORY, PACK)]
            wanted += [own(name, "thing.service.+"), *more]
            assert set(await gw.subscribe(wanted)) == {1}
        await gw.subscribe([topic(f"{one}_reply") for one in (HISTORY, PACK)])
        yield cloud, gw


def own(name: str, method: str) -> str:
    return topic(method, SENSORS, name)


async def report(gw: Gateway, method: str, params: object, *, name: str = CHILD) -> Any:
    gw.send(own(name, method), {"id": "1", "version": "1.0", "params": params, "method": method})
    return await gw.receive(own(name, f"{method}_reply"))


async def test_what_fits_is_kept_and_the_reply_names_the_rest() -> None:
    """Recorded replies of the vendor's cloud: code 200, and `data` by property."""
    async with stage() as (cloud, gw):
        sent = {
            "Temperature": {"value": 21.5, "time": NOW * 1000},
            "Light": 7,
            "Height": 3,
            "Interval": {"value": 5, "time": (NOW + 90_000) * 1000},  # over a day ahead
            "Place": {"x": 1},
        }
        reply = await report(gw, POST, sent)
        assert (reply["code"], reply["method"]) == (200, POST)
        assert reply["data"].keys() == {"Light", "Height", "Interval"}
        assert reply["data"]["Height"] == UNKNOWN
        (kept,) = cloud.reports(SENSORS, CHILD)
        assert kept["values"] == {"Temperature": 21.5, "Place": {"x": 1}}
        truth: Any = cloud.truth()
        assert truth["devices"][SENSORS][CHILD]["misfits"] == reply["data"]
        assert cloud.reports(SENSORS, SECOND) == []


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        (POST, [], 460),
        (POST, {str(number): 1 for number in range(201)}, 6106),
        ("thing.event.Hot.post", {"value": {"Temperature": 80.0}, "time": 1}, 200),
        ("thing.event.Hot.post", {"Temperature": 80.0}, 200),  # as the SDK for Node.js sends it
        ("thing.event.Hot.post", {"value": {"Temperature": "hot"}}, 460),
        ("thing.event.Cold.post", {"value": {}}, 5160),
        ("thing.deviceinfo.update", [{"attrKey": "SYS_SDK", "attrValue": "C"}], 200),
        ("thing.deviceinfo.update", {"attrKey": "SYS_SDK"}, 460),
    ],
)
async def test_reports(method: str, params: object, code: int) -> None:
    async with stage() as (_, gw):
        await gw.subscribe([own(CHILD, f"{method}_reply")])
        assert (await report(gw, method, params))["code"] == code


async def test_a_report_names_its_method() -> None:
    """120329, code 6300."""
    async with stage() as (cloud, gw):
        gw.send(own(CHILD, POST), {"id": "1", "params": {"Light": 1}})
        assert (await gw.receive(own(CHILD, f"{POST}_reply")))["code"] == 6300
        gw.send(own(CHILD, POST), {"id": "2", "sys": {"ack": 0}, "params": {}, "method": POST})
        gw.send(own(CHILD, POST), b"no JSON")
        await gw.served()
        assert gw.received == []
        truth: Any = cloud.truth()
        assert truth["devices"][SENSORS][CHILD]["discarded"] == {"unreadable": 1}


def part(name: str, **values: object) -> dict[str, object]:
    return {"identity": meaning(name), **values}


async def test_history_and_packs_are_reports_about_several_devices() -> None:
    async with stage() as (cloud, gw):

        async def code(method: str, params: object) -> int:
            gw.send(topic(method), {"id": "1", "params": params, "method": method})
            return int((await gw.receive(topic(f"{method}_reply")))["code"])

        earlier = [{"Light": {"value": one, "time": 1}} for one in (0, 1)]
        hot = [{"Hot": {"value": {"Temperature": 80.0}, "time": 2}}]
        assert await code(HISTORY, [part(CHILD, properties=earlier, events=hot)]) == 200
        kept: list[Any] = cloud.reports(SENSORS, CHILD)
        assert [one["values"] for one in kept] == [
            {"Light": 0},
            {"Light": 1},
            {"Temperature": 80.0},
        ]
        assert [one["times"] for one in kept] == [{"Light": 1}, {"Light": 1}, {"Hot": 2}]
        both = [part(CHILD, properties={"Light": 1}), part(SECOND, events=hot[0])]
        assert await code(PACK, {"properties": {}, "subDevices": both}) == 200
        assert [one["values"] for one in cloud.reports(SENSORS, SECOND)] == [{"Temperature": 80.0}]
        assert await code(PACK, {"subDevices": [part("SEN-0009", properties={})]}) == 6401
        assert await code(PACK, {"subDevices": [part(CHILD)] * 21}) == 6357
        many: dict[str, object] = {str(number): {} for number in range(21)}
        assert await code(PACK, {"subDevices": [part(CHILD, events=many)]}) == 6356
        assert await code(HISTORY, []) == 460
        assert await code(HISTORY, [{"properties": []}]) == 460


def test_reports_are_read_on_from_where_they_were_read_before() -> None:
    device = (SENSORS, CHILD)
    received = ThingReports(lambda _: ThingModel(), lambda *_: True, lambda: NOW, 3)
    for number in range(5):
        received.pass_on(device, "user/update", b"%d" % number)
    assert [one.payload for one in received.since(device, 3)] == [b"3", b"4"]
    assert received.since(device, 5) == ()
    with pytest.raises(ValueError, match="the first 2 are not kept"):
        received.since(device, 1)


async def test_what_no_model_describes_is_passed_on_as_it_is() -> None:
    async with stage() as (cloud, gw):
        gw.send(f"/{SENSORS}/{CHILD}/user/a/b", b"\xff\x00")
        gw.send(own(CHILD, "thing.model.up_raw"), b"\x01")
        await gw.served()
        custom, raw = cloud.reports(SENSORS, CHILD)
        assert (custom["method"], custom["payload"]) == ("user/a/b", "/wA=")
        assert (raw["method"], raw["payload"]) == ("thing.model.up_raw", "AQ==")


@pytest.mark.parametrize(
    ("plan", "kept", "code"),
    [
        (f"reply:429@{POST}", 0, 429),
        (f"reply:9999@{POST}/{CHILD}", 0, 9999),
        (f"reply:460@{POST}/{SECOND}", 1, 200),
        ("reply:5160@thing.event.Hot.post", 1, 200),
        (f"lose-reply@{POST}", 1, None),
        (f"lose-request@{POST}", 0, None),
        (f"lose-message@{GATEWAY}", 0, None),
        (f"lose-puback@{GATEWAY}", 1, 200),
    ],
)
async def test_faults_of_reports(plan: str, kept: int, code: int | None) -> None:
    async with stage() as (cloud, gw):
        cloud.set_faults(plan)
        gw.send(own(CHILD, POST), {"id": "1", "params": {"Light": 1}, "method": POST})
        await gw.served()
        replies = [json.loads(payload)["code"] for _, payload in gw.received]
        assert replies == ([] if code is None else [code])
        assert len(cloud.reports(SENSORS, CHILD)) == kept


async def test_a_fault_of_a_pack_is_by_the_devices_in_it() -> None:
    async with stage() as (cloud, gw):
        cloud.set_faults(f"reply:460@{PACK}/{CHILD}")
        for name, code in ((CHILD, 460), (SECOND, 200)):
            params = {"subDevices": [part(name, properties={"Light": 1})]}
            gw.send(topic(PACK), {"id": "1", "params": params, "method": PACK})
            assert (await gw.receive(topic(f"{PACK}_reply")))["code"] == code


async def test_a_batch_has_several_values_of_one_device() -> None:
    async with stage() as (cloud, gw):
        lights = [{"value": one, "time": one + 1} for one in (0, 1)]
        hot = {"value": {"Temperature": 80.0}, "time": 3}
        await gw.subscribe([own(CHILD, f"{BATCH}_reply")])
        params = {
            "properties": {"Light": lights, "Height": [{"value": 1}]},
            "events": {"Hot": [hot]},
        }
        reply = await report(gw, BATCH, params)
        assert (reply["code"], reply["data"]) == (200, {"Height": UNKNOWN})
        kept: list[Any] = cloud.reports(SENSORS, CHILD)
        shown = [(one["values"], one["times"]) for one in kept if one["values"]]
        assert shown == [
            ({"Light": 0}, {"Light": 1}),
            ({"Light": 1}, {"Light": 2}),
            ({"Temperature": 80.0}, {"Hot": 3}),
        ]
        many = {"properties": {"Light": [{"value": 1}] * 201}}
        assert (await report(gw, BATCH, many))["code"] == 6106
        assert (await report(gw, BATCH, {"events": {"Hot": [hot] * 21}}))["code"] == 6356


async def answer(gw: Gateway, method: str, **body: object) -> Any:
    """Receive a command, answer it, and return it."""
    command = await gw.receive(own(CHILD, method))
    gw.send(own(CHILD, f"{method}_reply"), {"id": command["id"], "data": {}, **body})
    return command


async def outcome(command: ThingCommand) -> object:
    async with asyncio.timeout(60):
        return await command.reply


async def test_an_operator_sets_properties_and_invokes_services() -> None:
    async with stage() as (cloud, gw):
        setting = cloud.set_properties(SENSORS, CHILD, {"Interval": 30})
        received = await answer(gw, SET, code=200)
        assert (received["params"], received["method"]) == ({"Interval": 30}, SET)
        assert await outcome(setting) == {"code": 200, "data": {}}
        call = cloud.invoke(SENSORS, CHILD, "Restart", {"Delay": 5})
        await answer(gw, "thing.service.Restart", code=100_000, data={"why": "busy"})
        assert await outcome(call) == {"code": 100_000, "data": {"why": "busy"}}
        with pytest.raises(ValueError, match="Temperature"):
            cloud.set_properties(SENSORS, CHILD, {"Temperature": 1.0})  # read only
        with pytest.raises(ValueError, match="Delay"):
            cloud.invoke(SENSORS, CHILD, "Restart", {"Delay": "soon"})
        with pytest.raises(KeyError):
            cloud.invoke(SENSORS, CHILD, "Explode", {})
        with pytest.raises(KeyError):
            cloud.set_properties(SENSORS, "unknown-1", {})
        with pytest.raises(ConnectionError):
            cloud.set_properties(SENSORS, "SEN-0009", {"Interval": 1})


async def test_only_the_right_answer_is_one() -> None:
    sent: list[Any] = []

    def push(*what: Any) -> bool:
        sent.append(what)
        return True

    model = specification.parse(TSL)
    sender = ThingCommands(lambda _: model, push, lambda: "7")
    command = sender.set_properties((SENSORS, CHILD), {"Light": 1})
    number = sent[0][2]["id"]
    for method, payload in (
        (f"{SET}_reply", b"["),
        (f"{SET}_reply", b'{"id": "99", "code": 200}'),
        (f"{SET}_reply", b'{"id": 1}'),
        ("thing.service.Restart_reply", b'{"id": "%s", "code": 200}' % number.encode()),
    ):
        assert not sender.answered((SENSORS, CHILD), method, payload)
    good = b'{"id": "%s", "code": 200}' % number.encode()
    assert not sender.answered((SENSORS, SECOND), f"{SET}_reply", good)
    assert sender.answered((SENSORS, CHILD), f"{SET}_reply", good)
    assert not sender.answered((SENSORS, CHILD), f"{SET}_reply", good)
    assert command.reply.result() == {"code": 200, "data": None}
    oldest = sender.set_properties((SENSORS, CHILD), {"Light": 1})
    for _ in range(commands.MAX_WAITING):
        sender.set_properties((SENSORS, CHILD), {"Light": 1})
    assert oldest.reply.cancelled()


ITEM = TslType("array", item=TslType("int"))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (TslType("int"), [0, 2**31 - 1, -(2**31)], [2**31, 1.0, True, "1", None]),
        (TslType("float"), [1.5, 2], ["1.5", True, None]),
        (TslType("double"), [1.5], [[], {}]),
        (TslType("text"), ["", "x" * 10_240], ["x" * 10_241, "ä" * 5_121, 1]),
        (TslType("date"), ["1635839462000"], [1635839462000, "today", ""]),
        (TslType("bool"), [0, 1], [True, False, 2, "1"]),
        (TslType("enum", values=frozenset({"0", "1"})), [0, 1], [2, "0", True]),
        (TslType("struct", {"x": TslType("int")}), [{"x": 1}, {}], [{"x": "1"}, {"y": 1}, []]),
        (ITEM, [[], [1, 2], [1] * 512], [[1, "2"], [1] * 513, {}]),
    ],
    ids=lambda one: one.kind if isinstance(one, TslType) else "",
)
def test_data_types(kind: TslType, good: list[object], bad: list[object]) -> None:
    """358843."""
    assert [kind.fault(value) for value in good] == [None] * len(good)
    assert all(kind.fault(value) for value in bad)


def test_a_model_is_read_as_exported() -> None:
    model = specification.parse(
        {
            "properties": [
                {
                    "identifier": "Modes",
                    "dataType": {"type": "array", "specs": {"item": {"type": "text"}}},
                },
                {"identifier": "Mode", "dataType": {"type": "enum", "specs": {"0": "off"}}},
            ]
        }
    )
    assert model.properties["Modes"].item == TslType("text")
    assert model.properties["Mode"].values == {"0"}
    assert model.settable == {"Modes", "Mode"}
    assert specification.parse({}) == ThingModel()
    with pytest.raises(ValueError, match="colour"):
        specification.parse({"properties": [{"identifier": "c", "dataType": {"type": "colour"}}]})
