"""What the objects show: properties and their changes; children in order, counted, and in pages."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.dbus.interfaces import load
from gatewayd.dbus.names import (
    GATEWAY,
    LOG,
    MANAGER,
    PROVIDER,
    STORE,
    ObjectInterface,
    provider_path,
)
from gatewayd.dbus.objects import (
    MAX_PAGE,
    PAGE,
    PROPERTIES,
    DeviceViews,
    ExportedObject,
    ObjectProperties,
    device_filter,
    read_field,
    read_manager,
)
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import LogView, ManagerView, ProviderView, StoreView
from gatewayd.errors import InvalidArgs
from tests.dbus.support import GATEWAY as GATEWAY_VIEW
from tests.dbus.support import view

ALL = device_filter({})
SHOWN = [
    (STORE, StoreView("vault", "tpm2", "unsealed", "")),
    (
        ObjectInterface(provider_path("alibaba"), PROVIDER),
        ProviderView("alibaba", "alibaba", "h:1", "ready"),
    ),
    (LOG, LogView("info", "journal", "gatewayd")),
]


@pytest.mark.parametrize(("location", "shown"), SHOWN, ids=[one.interface for one, _ in SHOWN])
def test_every_property_has_a_field_of_its_type_and_the_other_way_round(
    location: ObjectInterface, shown: StoreView
) -> None:
    interface, name = load(location.interface), location.interface
    assert set(PROPERTIES[name]) == set(interface.properties)
    assert set(PROPERTIES[name].values()) == {field.name for field in fields(shown)}
    values = ObjectProperties(ExportedObject(location, shown), interface, read_field(name))
    types = {name: values.property(name).get_type_string() for name in interface.properties}
    assert types == dict(interface.properties)


def manager(shown: ManagerView = GATEWAY_VIEW) -> ObjectProperties:
    ours = devices("child-1")
    ours.put(view("child-2", state="failed"))
    return ObjectProperties(ExportedObject(GATEWAY, shown), load(MANAGER), read_manager(ours))


def test_every_property_of_the_manager_has_a_value_of_its_type() -> None:
    interface = load(MANAGER)
    values = {name: manager().property(name) for name in interface.properties}
    assert {n: v.get_type_string() for n, v in values.items()} == dict(interface.properties)
    assert [values[n].unpack() for n in ("NDevices", "NPending", "NFailed")] == [2, 1, 1]


def test_changes_are_announced_once() -> None:
    properties, emitted = manager(), list[object]()
    first = properties.changed()
    assert first is not None
    assert set(first.unpack()[1]) == load(MANAGER).announced
    properties.announce(lambda *signal: emitted.append(signal))
    assert emitted == []
    properties.view = replace(GATEWAY_VIEW, state="sealed", counters={"mdns:sighted": 1})
    properties.announce(
        lambda path, member, values: emitted.append((path, member, values.unpack()))
    )
    changed: object = ("org.gatewayd1.Manager", {"State": "sealed"}, [])
    assert emitted == [
        ("/org/gatewayd1", "org.freedesktop.DBus.Properties.PropertiesChanged", changed)
    ]


def devices(*ids: str) -> DeviceViews:
    made = DeviceViews()
    for one in ids:
        made.put(view(one))
    return made


@given(st.sets(st.text("abc0", min_size=1, max_size=4)), st.integers(1, 5))
def test_pages_give_each_child_once_and_in_order(ids: set[str], limit: int) -> None:
    ours, after, seen = devices(*ids), "", list[str]()
    while True:
        views, after = ours.page(ALL, after, limit)
        seen += [v.id for v in views]
        assert len(views) <= limit
        if not after:
            break
    assert seen == sorted(ids)


def test_a_page_goes_on_after_a_child_that_has_gone() -> None:
    ours = devices("a", "b", "c", "d")
    _, after = ours.page(ALL, "", 2)
    ours.drop(DeviceId("b"))
    ours.put(view("aa"))
    assert [v.id for v in ours.page(ALL, after, 2)[0]] == ["c", "d"]


def test_the_size_of_a_page_is_bounded() -> None:
    ours = devices(*(f"{i:05}" for i in range(MAX_PAGE + 2)))
    assert len(ours.page(ALL, "", 0)[0]) == PAGE
    assert len(ours.page(ALL, "", 4_000_000_000)[0]) == MAX_PAGE


def test_counts_follow_the_views() -> None:
    ours = devices("a", "b", "c")
    before = ours.put(view("a", state="online"))
    ours.drop(DeviceId("b"))
    assert before is not None
    assert before.state == "pending"
    assert ours.counts() == {"online": 1, "pending": 1}
    assert len(ours) == 2


def test_filters() -> None:
    ours = devices("a1", "a2")
    ours.put(view("b1", state="online", provider="huawei", name="Meter 7"))

    def found(**filters: object) -> list[str]:
        return [v.id for v in ours.page(device_filter(filters), "", 0)[0]]

    assert found(state="pending") == ["a1", "a2"]
    assert found(state="online", provider="huawei") == ["b1"]
    assert found(state="online", provider="alibaba") == []
    assert found(glob="a?") == ["a1", "a2"]
    assert found(glob="Meter *") == ["b1"]
    assert found(glob="1") == []
    assert found(text="METER") == found(text="er 7") == ["b1"]
    assert found(text="a", state="pending") == ["a1", "a2"]
    assert found(text="") == ["a1", "a2", "b1"]
    assert found(text="*") == []


@pytest.mark.parametrize(("field", "value", "text"), [
    ("identity", "serial TH-7", "th-7"), ("model", "TH-20", "th"), ("vendor", "ACME", "acme"),
    ("cloud_id", "product/Straße", "STRASSE"), ("addresses", ("10.0.0.1", "fe80::1"), "FE80"),
])  # fmt: skip
def test_a_text_is_searched_for_in_what_an_operator_knows(
    field: str, value: Any, text: str
) -> None:
    ours = devices("a", "b")
    ours.put(replace(view("b"), **{field: value}))
    assert [v.id for v in ours.page(device_filter({"text": text}), "", 0)[0]] == ["b"]


@pytest.mark.parametrize("filters", [
    {"color": "red"}, {"state": 7}, {"glob": "*" * 65}, {"text": "x" * 65}, {"id": "a"},
])  # fmt: skip
def test_a_filter_that_is_not_known_is_refused(filters: dict[str, object]) -> None:
    with pytest.raises(InvalidArgs):
        device_filter(filters)
