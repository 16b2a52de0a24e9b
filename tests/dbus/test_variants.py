"""Views as D-Bus values, against the interfaces' own files."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.dbus.glib import Variant
from gatewayd.dbus.interfaces import load
from gatewayd.dbus.names import DEVICE, MANAGER, device_path
from gatewayd.dbus.variants import (
    FIELDS,
    DeviceVariants,
    pack_text,
    pack_texts,
    row_of,
    table,
    texts,
)
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import DeviceView
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


def test_entries_are_kept_until_they_are_dropped() -> None:
    variants, now = DeviceVariants(INTERFACE), view("child-1", state="online")
    before, after = variants.entry(ONE), DeviceVariants(INTERFACE).entry(now)
    assert variants.entry(now) == before != after
    variants.forget(ONE.id)
    assert variants.entry(now) == after
    assert variants.has_entry(ONE.id)
    variants.forget_all()
    assert not variants.has_entry(ONE.id)


def test_rows_are_made_of_views_each_time() -> None:
    variants, now = DeviceVariants(INTERFACE), view("child-1", state="online")
    assert variants.rows([ONE]).unpack() == [row_of(ONE)]
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
    variants = DeviceVariants(INTERFACE)
    changed = variants.changed(ONE, now)
    assert changed is not None
    assert changed.unpack() == (DEVICE, {"State": "online"}, [])
    assert variants.changed(now, replace(now, last_seen=100)) is None


def test_a_description_has_path_and_history() -> None:
    more = {"Messages": Variant("a{sv}", {"NWaiting": Variant("t", 7)})}
    (described,) = DeviceVariants(INTERFACE).describe(ONE, more).unpack()
    assert described["Path"] == "/org/gatewayd1/device/child_2d1"
    assert described["History"] == [(3, "Seen", "discovered", "Heard on eth1.")]
    assert described["Messages"] == {"NWaiting": 7}
    assert set(described) == {*INTERFACE.properties, "Path", "History", "Messages", "Sightings"}


def test_a_table_is_the_same_as_glibs_own() -> None:
    values = {"a": Variant("s", "x"), "b": Variant("u", 7)}
    assert table(values).equal(Variant("a{sv}", values))


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=400)
NUMBERS = st.integers(0, 2**64 - 1)
VIEWS = st.builds(
    lambda texts, addresses, numbers, attempts: replace(
        ONE,
        name=texts[0], model=texts[1], vendor=texts[2], remedy=texts[3], explanation=texts[3] * 200,
        addresses=tuple(addresses), state_changed=numbers[0], last_seen=numbers[1],
        attempts=attempts,
    ),
    st.tuples(TEXTS, TEXTS, TEXTS, TEXTS),
    st.lists(TEXTS, max_size=16),
    st.tuples(NUMBERS, NUMBERS),
    st.integers(0, 2**32 - 1),
)  # fmt: skip


def by_glib(kind: str, value: object) -> bytes:
    """Return a value as GLib serialises it."""
    return bytes(Variant(kind, value).get_data_as_bytes().get_data() or b"")


def by_us(made: Variant) -> bytes:
    return bytes(made.get_data_as_bytes().get_data() or b"")


@given(st.lists(VIEWS, max_size=3))
def test_lists_and_objects_are_the_bytes_that_glib_makes(views: list[DeviceView]) -> None:
    views = [replace(one, id=DeviceId(f"child-{n}")) for n, one in enumerate(views)]
    variants = DeviceVariants(INTERFACE)
    assert by_us(variants.rows(views)) == by_glib("a(ssssto)", [row_of(one) for one in views])
    objects = {device_path(one.id): {DEVICE: variants.properties(one)} for one in views}
    assert by_us(variants.entries(views)) == by_glib("a{oa{sa{sv}}}", objects)
    for one in views:
        added = (device_path(one.id), objects[device_path(one.id)])
        assert by_us(variants.added(one)) == by_glib("(oa{sa{sv}})", added)


@given(VIEWS)
def test_a_signal_is_the_bytes_that_glib_makes(now: DeviceView) -> None:
    variants = DeviceVariants(INTERFACE)
    announced = {n: f for n, f in FIELDS.items() if n in INTERFACE.announced}
    names = [n for n, field in announced.items() if getattr(ONE, field) != getattr(now, field)]
    made = variants.changed(ONE, now)
    assert (made is None) == (not names)
    if made is not None:
        values = {name: variants.property(now, name) for name in names}
        assert by_us(made) == by_glib("(sa{sv}as)", (DEVICE, values, []))


@pytest.mark.parametrize("kind", ["(ssss)", "(sos)"])
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=4))
def test_texts_are_the_bytes_that_glib_makes(kind: str, words: list[str]) -> None:
    values = [
        "/org/gatewayd1/device/a" if one == "o" else word
        for one, word in zip(kind[1:-1], words, strict=False)
    ]
    assert by_us(texts(kind, *values)) == by_glib(kind, tuple(values))
    with pytest.raises(ValueError, match="zip"):
        texts(kind, *values, "more")


@pytest.mark.parametrize("number", [0, 1, 250, 253, 254, 255, 256, 65_530, 65_535, 65_536, 70_000])
def test_the_ends_of_members_take_as_few_bytes_as_suffice(number: int) -> None:
    for values in ([], ["x" * number], ["", "x" * number, "y"], ["y"] * (number % 300)):
        assert pack_texts(values) == by_glib("as", values)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_is_no_string_of_dbus_is_not_made(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of two kinds
        pack_text(text)


def test_signatures_of_results() -> None:
    results = load(MANAGER).results
    assert results["ListDevicesFiltered"] == "(a(ssssto)s)"
    assert results["Reload"] == "()"
