"""The model of a product: what fits, and what does not."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.simulator.huawei.exchange import product_model
from gatewayd.simulator.huawei.exchange.product_model import ProductModel
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError

LAMP: list[dict[str, Any]] = [
    {
        "service_id": "lamp",
        "service_type": "lamp",
        "properties": [
            {"property_name": "level", "data_type": "int", "min": "0", "max": "100"},
            {"property_name": "count", "data_type": "long", "method": "R"},
            {"property_name": "power", "data_type": "decimal", "max": "12.5"},
            {"property_name": "label", "data_type": "string", "max_length": 5},
            {"property_name": "since", "data_type": "DateTime"},
            {"property_name": "more", "data_type": "jsonObject"},
            {"property_name": "mode", "data_type": "enum", "enum_list": ["on", "off"]},
            {"property_name": "lit", "data_type": "boolean"},
            {"property_name": "tags", "data_type": "string list", "max_length": 3},
        ],
        "commands": [
            {
                "command_name": "dim",
                "paras": [
                    {"para_name": "to", "data_type": "int", "required": True, "max": "100"},
                    {"para_name": "slowly", "data_type": "boolean"},
                ],
            },
            {"command_name": "reset", "paras": []},
        ],
        "events": [
            {
                "event_type": "broken",
                "paras": [
                    {"para_name": "code", "data_type": "int", "required": True},
                    {"para_name": "why", "data_type": "string"},
                ],
            },
        ],
    }
]
MODEL = product_model.read(LAMP)
GOOD: dict[str, list[object]] = {
    "level": [0, 100],
    "count": [1 << 40, -1],
    "power": [12.5, 3, -1e3],
    "label": ["", "a b.ü"],
    "since": ["20260102T030405Z", "2026-01-02T03:04:05.678Z"],
    "more": [{}, {"a": [1]}],
    "mode": ["on"],
    "lit": [True, False],
    "tags": [[], ["a", "bcd"]],
}
BAD: dict[str, list[object]] = {
    "level": [-1, 101, 5.0, "5", True, None],
    "count": [1 << 63, 1.5],
    "power": [12.6, "3", None, True],
    "label": ["123456", 5, None],
    "since": ["2026-01-02", 20260102, ""],
    "more": [[], "{}", None],
    "mode": ["dim", "", 1],
    "lit": [0, 1, "true"],
    "tags": ["a", ["abcd"], [1]],
}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_values_of_each_type(name: str) -> None:
    for value in GOOD[name]:
        assert MODEL.sort("lamp", {name: value}) == ({name: value}, [])
    for value in BAD[name]:
        fit, rest = MODEL.sort("lamp", {name: value})
        assert (fit, [str(one) for one in rest]) == ({}, [f"unfit-value: lamp.{name}"]), value


def test_what_fits_of_a_report_is_kept() -> None:
    fit, rest = MODEL.sort("lamp", {"level": 5, "humidity": 4, "lit": "yes"})
    assert fit == {"level": 5}
    assert [str(one) for one in rest] == [
        "unknown-property: lamp.humidity",
        "unfit-value: lamp.lit",
    ]
    assert [str(one) for one in MODEL.sort("heater", {"level": 5})[1]] == [
        "unknown-service: heater"
    ]


def test_a_product_without_a_model_fits_nothing() -> None:
    assert ProductModel() == product_model.read([])
    assert ProductModel().sort("lamp", {"level": 5})[0] == {}


def test_only_writable_properties_are_set() -> None:
    assert MODEL.settable("lamp", {"level": 5}) == []
    assert [str(one) for one in MODEL.settable("lamp", {"count": 5, "level": 500})] == [
        "unfit-value: lamp.level", "not-writable: lamp.count",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("service", "name", "paras", "complaints"),
    [
        ("lamp", "dim", {"to": 5}, []),
        ("lamp", "dim", {"to": 5, "slowly": True}, []),
        ("lamp", "reset", {}, []),
        ("lamp", "dim", {}, ["missing-parameter: lamp.dim.to"]),
        ("lamp", "dim", {"to": 101}, ["unfit-value: lamp.dim.to"]),
        ("lamp", "reset", {"now": 1}, ["unknown-parameter: lamp.reset.now"]),
        ("lamp", "explode", {}, ["unknown-command: lamp.explode"]),
        ("heater", "dim", {"to": 5}, ["unknown-service: heater"]),
    ],
)
def test_commands(service: str, name: str, paras: dict[str, object], complaints: list[str]) -> None:
    assert [str(one) for one in MODEL.command(service, name, paras)] == complaints


@pytest.mark.parametrize(
    ("service", "name", "paras", "complaints"),
    [
        ("lamp", "broken", {"code": 5, "why": "cold"}, []),
        ("lamp", "broken", {"why": 5}, [
            "missing-parameter: lamp.broken.code", "unfit-value: lamp.broken.why",
        ]),
        ("lamp", "dim", {}, ["unknown-event: lamp.dim"]),
        ("heater", "broken", {}, ["unknown-service: heater"]),
    ],
)  # fmt: skip
def test_events(service: str, name: str, paras: dict[str, object], complaints: list[str]) -> None:
    assert [str(one) for one in MODEL.event(service, name, paras)] == complaints


@pytest.mark.parametrize(
    "capabilities",
    [
        "lamp", [5], [{}], [{"service_id": 5}], [{"service_id": "a b"}], LAMP + LAMP,
        [{"service_id": "a", "properties": "x"}],
        [{"service_id": "a", "properties": [{"property_name": "x", "data_type": "float"}]}],
        [{"service_id": "a", "properties": [{"property_name": "x"}]}],
        [{"service_id": "a",
          "properties": [{"property_name": "x", "data_type": "int", "min": "low"}]}],
        [{"service_id": "a",
          "properties": [{"property_name": "x", "data_type": "int", "method": "X"}]}],
        [{"service_id": "a",
          "properties": [{"property_name": "x", "data_type": "int"}] * 2}],
        [{"service_id": "a", "commands": [{"command_name": "x", "paras": [{}]}]}],
        [{"service_id": "a", "events": [{"event_type": "x" * 33, "paras": []}]}],
        [{"service_id": f"s{number}"} for number in range(501)],
        [{"service_id": "a", "description": "x" * 512_000}],
    ],
    ids=str,
)  # fmt: skip
def test_models_that_are_refused(capabilities: object) -> None:
    with pytest.raises(PlatformError) as caught:
        product_model.read(capabilities)
    assert caught.value.code is IotdaCode.INVALID_INPUT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)) | st.text(), JSON))
def test_any_report_is_sorted(properties: dict[str, object]) -> None:
    fit, rest = MODEL.sort("lamp", properties)
    assert len(fit) + len(rest) == len(properties)
    assert all(fit[name] == properties[name] for name in fit)


@given(JSON)
def test_any_capabilities_are_a_model_or_refused(value: object) -> None:
    with contextlib.suppress(PlatformError):
        assert isinstance(product_model.read(value), ProductModel)
