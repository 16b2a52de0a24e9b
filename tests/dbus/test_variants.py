"""Views as D-Bus values, against the interfaces' own files."""

from __future__ import annotations

from gatewayd.dbus.glib import Variant
from gatewayd.dbus.interfaces import load
from gatewayd.dbus.names import DEVICE, MANAGER
from gatewayd.dbus.variants import FIELDS, DeviceVariants, row_of, table
from tests.dbus.support import view

INTERFACE = load(DEVICE)
ONE = view("child-1")


def test_every_property_of_a_child_has_a_field_and_the_other_way_round() -> None:
    assert set(FIELDS) == set(INTERFACE.properties)
    values = DeviceVariants(INTERFACE).properties(ONE)
    assert {n: v.get_type_string() for n, v in values.items()} == dict(INTERFACE.properties)
    assert values["Addresses"].unpack() == ["10.0.0.7"]


def test_what_never_or_always_changes_is_not_announced() -> None:
    quiet = {"Id", "LastSeenTimestamp", "Attempts", "NextAttemptTimestamp"}
    assert set(INTERFACE.properties) - INTERFACE.announced == quiet


def test_rows_are_kept_until_they_are_dropped() -> None:
    variants, now = DeviceVariants(INTERFACE), view("child-1", state="online")
    assert variants.rows([ONE]).unpack() == [row_of(ONE)]
    assert variants.rows([now]).unpack() == [row_of(ONE)]
    variants.forget(ONE.id)
    assert variants.rows([now]).unpack() == [row_of(now)]
    assert variants.rows([]).get_type_string() == "a(ssssto)"


def test_entries_are_what_an_object_manager_gives() -> None:
    entries = DeviceVariants(INTERFACE).entries([ONE])
    assert entries.get_type_string() == "a{oa{sa{sv}}}"
    ((path, interfaces),) = entries.unpack().items()
    assert path == "/org/gatewayd1/device/child_2d1"
    assert interfaces[DEVICE]["Remedy"] == ONE.remedy


def test_only_announced_properties_that_changed_are_reported() -> None:
    now = view("child-1", state="online", last_seen=99, attempts=4)
    described = DeviceVariants(INTERFACE).changed(ONE, now)
    assert {n: v.unpack() for n, v in described.items()} == {"State": "online"}


def test_a_description_has_path_and_history() -> None:
    (described,) = DeviceVariants(INTERFACE).describe(ONE).unpack()
    assert described["Path"] == "/org/gatewayd1/device/child_2d1"
    assert described["History"] == [(3, "Seen", "discovered", "Heard on eth1.")]
    assert set(described) == {*INTERFACE.properties, "Path", "History"}


def test_a_table_is_the_same_as_glibs_own() -> None:
    values = {"a": Variant("s", "x"), "b": Variant("u", 7)}
    assert table(values).equal(Variant("a{sv}", values))


def test_signatures_of_results() -> None:
    results = load(MANAGER).results
    assert results["ListDevicesFiltered"] == "(a(ssssto)s)"
    assert results["Reload"] == "()"
