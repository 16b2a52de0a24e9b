"""Who is believed to be which unit, and which child it may have."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import pytest

from gatewayd.credentials.holders import (
    LASTING,
    ChildFinder,
    ChildSelector,
    Holder,
    selector_of,
    unit_of,
)
from gatewayd.credentials.settings import CredentialSettings, UnitSettings, UserSettings
from gatewayd.device.record import Record, Verdict
from tests.credentials.support import a_record
from tests.support.fakes import MemoryRecords

ADDRESS = b"\0a1b2c3d4e5f60718/unit/mosquitto-bridge.service/child.json"

SETTINGS = CredentialSettings(
    units={
        "mosquitto-bridge": UnitSettings(child="TH20-1"),
        "meter@": UnitSettings(rule="meters"),
    },
    users={"100999": UserSettings(child="p/TH20-2", rule="meters")},
)


def test_systemd_is_believed_what_unit_it_starts() -> None:
    assert unit_of(ADDRESS, 0) == Holder(unit="mosquitto-bridge")
    assert unit_of(b"\0f/unit/meter@TH20-1.service/x", 0) == Holder(unit="meter@TH20-1")
    escaped = b"\0f/unit/a\\x2db@c.service/x"
    assert unit_of(escaped, 0) == Holder(unit="a\\x2db@c")


@pytest.mark.parametrize(("address", "uid"), [
    (ADDRESS, 1000),
    (ADDRESS, 65534),
    (ADDRESS[1:], 0),
    (b"", 0),
    ("", 0),
    ("/run/other", 0),
    (b"\0f/unit/mosquitto-bridge.service", 0),
    (b"\0f/unit/mosquitto-bridge.service/", 0),
    (b"\0f/unit/mosquitto-bridge.socket/x", 0),
    (b"\0f/unit/a/b.service/x", 0),
    (b"\0f/user/mosquitto-bridge.service/x", 0),
    (b"\0/unit/mosquitto-bridge.service/x", 0),
    (b"\0f/unit/mosquitto\n-bridge.service/x", 0),
    (b"\0f/unit/" + b"a" * 300 + b".service/x", 0),
    (b"\0f/unit/\xff.service/x", 0),
    (ADDRESS + b"\n", 0),
])  # fmt: skip
def test_nothing_else_is(address: bytes | str, uid: int) -> None:
    assert unit_of(address, uid) is None


@pytest.mark.parametrize(("holder", "selector"), [
    (Holder(unit="mosquitto-bridge"), ChildSelector("TH20-1", "")),
    (Holder(unit="meter@TH20-7"), ChildSelector("TH20-7", "meters")),
    (Holder(user="100999"), ChildSelector("p/TH20-2", "meters")),
    (Holder(unit="mosquitto-bridge@x"), None),
    (Holder(unit="meter@"), None),
    (Holder(unit="meter"), None),
    (Holder(unit="100999"), None),
    (Holder(user="mosquitto-bridge"), None),
    (Holder(user="1000"), None),
])  # fmt: skip
def test_the_settings_say_which_child_a_holder_may_have(
    holder: Holder, selector: ChildSelector | None
) -> None:
    assert selector_of(holder, SETTINGS) == selector


def test_a_child_is_named_by_its_id_or_by_its_name_at_the_cloud() -> None:
    one, other = a_record("TH20-1"), a_record("TH20-1", product="q", rule="other")
    records = MemoryRecords()
    records.rows = {record.device: record for record in (one, other)}

    def find(child: str, rule: str = "") -> Sequence[Record]:
        return ChildFinder(records).find(ChildSelector(child, rule), 0.0)

    for name in (one.device, "p/TH20-1"):
        assert find(name) == [one]
    assert find("TH20-1") == [one, other], "ambiguous"
    assert find("TH20-1", "meters") == [one]
    assert find("th20-1") == []
    assert find("", "meters") == []


def test_a_child_that_is_not_admitted_is_not_meant_and_takes_no_name_from_another() -> None:
    one, other = a_record("TH20-1"), a_record("TH20-1", product="q")
    records = MemoryRecords()
    for verdict in (Verdict.REJECTED, Verdict.RETIRED):
        gone = replace(other, verdict=verdict)
        records.rows = {record.device: record for record in (one, gone)}
        assert ChildFinder(records).find(ChildSelector("TH20-1", ""), 0.0) == [one]
        assert ChildFinder(records).find(ChildSelector("q/TH20-1", ""), 0.0) == []


def test_names_that_were_read_are_used_for_a_while_but_never_the_records() -> None:
    one, other = a_record("TH20-1"), a_record("TH20-1", product="q")
    records, meant = MemoryRecords(), ChildSelector("TH20-1", "")
    finder = ChildFinder(records)
    records.rows[one.device] = one
    assert finder.find(meant, 0.0) == [one]
    records.rows[other.device] = other
    assert finder.find(meant, LASTING / 2) == [one]
    assert finder.find(meant, LASTING) == [one, other]
    renewed = records.rows[one.device] = replace(one, stored=2)
    del records.rows[other.device]
    assert finder.find(meant, LASTING) == [renewed]
    records.rows[other.device] = other
    finder.forget()
    assert finder.find(meant, LASTING) == [renewed, other]


@pytest.mark.parametrize(("units", "users", "wrong"), [
    ({"mosquitto-bridge.service": UnitSettings(child="x")}, {}, ".service"),
    ({"a b": UnitSettings(child="x")}, {}, "no unit"),
    ({"": UnitSettings(child="x")}, {}, "no unit"),
    ({"a" * 75: UnitSettings(child="x")}, {}, "at most 74"),
    ({"a@b": UnitSettings(child="x")}, {}, "no unit"),
    ({"bridge": UnitSettings(rule="meters")}, {}, "'child'"),
    ({"bridge@": UnitSettings(child="x", rule="meters")}, {}, "'child'"),
    ({"bridge@": UnitSettings()}, {}, "'rule'"),
    ({}, {"no body": UserSettings(child="x")}, "no user"),
    ({}, {"../x": UserSettings(child="x")}, "no user"),
])  # fmt: skip
def test_names_that_cannot_work_are_refused(
    units: dict[str, UnitSettings], users: dict[str, UserSettings], wrong: str
) -> None:
    ((_, name, fault),) = CredentialSettings(units=units, users=users).faults()
    assert wrong in fault
    assert name in (*units, *users)


def test_names_that_can_work_are_not() -> None:
    assert not list(SETTINGS.faults())
    longest = "a" * 74
    assert not list(CredentialSettings(units={longest: UnitSettings(child="x")}).faults())
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"\0{uuid4().hex[:16]}/unit/{longest}.service/c")
        address = one.getsockname()
    assert len(address) == 107
    assert unit_of(address, 0) == Holder(unit=longest)
    assert sorted(SETTINGS.rules()) == [
        ("units", "meter@", "meters"), ("users", "100999", "meters"),
    ]  # fmt: skip


@pytest.mark.parametrize(("table", "wrong"), [
    (UserSettings(child=""), ["child is empty"]),
    (UserSettings(child="a b", rule="c d"), ["child is no id", "rule is no name"]),
    (UserSettings(child="a/b/c"), ["child is no id"]),
    (UserSettings(child="p/TH20-1", rule="meters"), []),
    (UnitSettings(child="a\n", rule="-"), ["child is no id", "rule is no name"]),
    (UnitSettings(rule="meters"), []),
])  # fmt: skip
def test_the_names_of_a_table_are_checked(
    table: UnitSettings | UserSettings, wrong: list[str]
) -> None:
    problems = list(table.problems())
    assert [found.startswith(said) for found, said in zip(problems, wrong, strict=True)] == [
        True for _ in wrong
    ]
