"""The tables of methods, against the interfaces' own files."""

from __future__ import annotations

import pytest

from gatewayd.dbus.names import (
    CHANGES,
    LOG_CONTROL,
    MANAGER,
    OBJECT_MANAGER,
    QUESTIONS,
    load_all,
    variants,
)

READ_BY_US = {
    (MANAGER, "ListDevices"), (MANAGER, "ListDevicesFiltered"), (MANAGER, "CountDevices"),
    (OBJECT_MANAGER, "GetManagedObjects"),
}  # fmt: skip
"""Answered from the views."""
WRITABLE = {(LOG_CONTROL, "LogLevel")}


def test_every_method_is_served_in_one_way() -> None:
    ways = (set(CHANGES), set(QUESTIONS), READ_BY_US)
    assert sum(map(len, ways)) == len(set.union(*ways))
    methods = {(face.name, method) for face in load_all().values() for method in face.answers}
    assert methods == set.union(*ways) - WRITABLE


def test_no_method_shares_a_name_with_a_property() -> None:
    for interface in load_all().values():
        assert not set(interface.answers) & set(interface.properties)


def test_no_property_can_be_written_but_the_log_level() -> None:
    written = {(face.name, p.name) for face in load_all().values()
               for p in face.info.properties if int(p.flags) != 1}  # fmt: skip  # READABLE
    assert written == WRITABLE


@pytest.mark.parametrize(("fact", "signature"), [
    ("x", "s"), (7, "t"), (True, "b"), (["a"], "as"), ((), "as"),
])  # fmt: skip
def test_facts_have_their_types(fact: object, signature: str) -> None:
    (value,) = variants({"x": fact}).values()  # type: ignore[dict-item]  # every type in turn
    assert value.get_type_string() == signature
    assert value.unpack() == (list(fact) if isinstance(fact, tuple) else fact)
