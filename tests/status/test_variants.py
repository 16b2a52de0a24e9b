"""Views as D-Bus values, against the interfaces' own files."""

from __future__ import annotations

from gatewayd.glib import Variant
from gatewayd.status.fleet import Fleet
from gatewayd.status.interfaces import load, load_all
from gatewayd.status.names import DEVICE, MANAGER
from gatewayd.status.requests import CHANGES, QUESTIONS
from gatewayd.status.variants import (
    FIELDS,
    DeviceVariants,
    manager_announced,
    manager_property,
    row_of,
    table,
)
from tests.status.served import GATEWAY, view

INTERFACE = load(DEVICE)
ONE = view("child-1")


def test_every_property_of_a_child_has_a_field_and_the_other_way_round() -> None:
    assert set(FIELDS) == set(INTERFACE.properties)
    values = DeviceVariants(INTERFACE).properties(ONE)
    assert {n: v.get_type_string() for n, v in values.items()} == dict(INTERFACE.properties)
    assert values["Addresses"].unpack() == ["10.0.0.7"]


def test_every_property_of_the_manager_has_a_value_of_its_type() -> None:
    interface, fleet = load(MANAGER), Fleet()
    fleet.put(ONE)
    fleet.put(view("child-2", state="failed"))
    values = {n: manager_property(interface, n, GATEWAY, fleet) for n in interface.properties}
    assert {n: v.get_type_string() for n, v in values.items()} == dict(interface.properties)
    assert [values[n].unpack() for n in ("NDevices", "NPending", "NFailed")] == [2, 1, 1]
    assert set(manager_announced(interface, GATEWAY, fleet)) == interface.announced


def test_no_method_shares_a_name_with_a_property() -> None:
    for interface in load_all().values():
        assert not set(interface.answers) & set(interface.properties)


def test_no_property_can_be_written() -> None:
    for interface in load_all().values():
        assert all(int(p.flags) == 1 for p in interface.info.properties)  # READABLE


def test_the_tables_of_methods_name_methods() -> None:
    assert set(CHANGES) | set(QUESTIONS) < set(load(MANAGER).answers)


def test_what_never_or_always_changes_is_not_announced() -> None:
    quiet = {"Id", "LastSeenTimestamp", "Attempts", "NextAttemptTimestamp"}
    assert set(INTERFACE.properties) - INTERFACE.announced == quiet


def test_rows_are_made_anew_only_when_told() -> None:
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


def test_only_what_has_changed_and_is_announced_is_told() -> None:
    now = view("child-1", state="online", last_seen=99, attempts=4)
    told = DeviceVariants(INTERFACE).changed(ONE, now)
    assert {n: v.unpack() for n, v in told.items()} == {"State": "online"}


def test_a_description_has_path_and_history() -> None:
    (told,) = DeviceVariants(INTERFACE).describe(ONE).unpack()
    assert told["Path"] == "/org/gatewayd1/device/child_2d1"
    assert told["History"] == [(3, "Seen", "discovered", "Heard on eth1.")]
    assert set(told) == {*INTERFACE.properties, "Path", "History"}


def test_a_table_is_the_same_as_glibs_own() -> None:
    values = {"a": Variant("s", "x"), "b": Variant("u", 7)}
    assert table(values).equal(Variant("a{sv}", values))


def test_signatures_of_answers() -> None:
    answers = load(MANAGER).answers
    assert answers["ListDevicesFiltered"] == "(a(ssssto)s)"
    assert answers["Reload"] == "()"
