"""Objects that are always there: properties of a view, and what is told of their changes."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

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
    PROPERTIES,
    DeviceViews,
    ExportedObject,
    ObjectProperties,
    read_field,
    read_manager,
)
from gatewayd.device.views import LogView, ManagerView, ProviderView, StoreView
from tests.dbus import served

SHOWN = [
    (STORE, StoreView("vault", "tpm2", "unsealed", "")),
    (
        ObjectInterface(provider_path("alibaba"), PROVIDER),
        ProviderView("alibaba", "alibaba", "h:1", "ready"),
    ),
    (LOG, LogView("info", "journal", "gatewayd")),
]


@pytest.mark.parametrize(("place", "view"), SHOWN, ids=[place.interface for place, _ in SHOWN])
def test_every_property_has_a_field_of_its_type_and_the_other_way_round(
    place: ObjectInterface, view: StoreView
) -> None:
    interface = load(place.interface)
    assert set(PROPERTIES[place.interface]) == set(interface.properties)
    assert set(PROPERTIES[place.interface].values()) == {field.name for field in fields(view)}
    fixed = ObjectProperties(ExportedObject(place, view), interface, read_field(place.interface))
    types = {name: fixed.property(name).get_type_string() for name in interface.properties}
    assert types == dict(interface.properties)


def manager(view: ManagerView = served.GATEWAY) -> ObjectProperties:
    fleet = DeviceViews()
    fleet.put(served.view("child-1"))
    fleet.put(served.view("child-2", state="failed"))
    return ObjectProperties(ExportedObject(GATEWAY, view), load(MANAGER), read_manager(fleet))


def test_every_property_of_the_manager_has_a_value_of_its_type() -> None:
    interface = load(MANAGER)
    values = {name: manager().property(name) for name in interface.properties}
    assert {n: v.get_type_string() for n, v in values.items()} == dict(interface.properties)
    assert [values[n].unpack() for n in ("NDevices", "NPending", "NFailed")] == [2, 1, 1]


def test_changes_are_told_once() -> None:
    fixed, told = manager(), list[object]()
    first = fixed.changed()
    assert first is not None
    assert set(first.unpack()[1]) == load(MANAGER).announced
    fixed.announce(lambda *what: told.append(what))
    assert told == []
    fixed.view = replace(served.GATEWAY, state="sealed", counters={"mdns:sighted": 1})
    fixed.announce(lambda path, member, values: told.append((path, member, values.unpack())))
    changed: object = ("org.gatewayd1.Manager", {"State": "sealed"}, [])
    assert told == [
        ("/org/gatewayd1", "org.freedesktop.DBus.Properties.PropertiesChanged", changed)
    ]
