"""What was refused is remembered within bounds, and a flood hides no other's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import gatewayd
from gatewayd.discovery.diagnosis.refusals import (
    CAUSES,
    MAX_CAUSES,
    MAX_KEPT,
    MAX_LISTED,
    MAX_NOTED,
    MAX_OF_SENDER,
    Refusal,
    RefusalList,
    RefusalNotes,
)
from gatewayd.discovery.discoverer import Health

ONE = Refusal(1.0, "mdns", "lan0", "192.0.2.7", "Lamp", "bad-name")


def test_notes_are_read_once() -> None:
    notes = RefusalNotes()
    for _ in range(3):
        notes.note("bad-name", "lan0", "192.0.2.7", "Lamp")
    assert list(notes.take()) == [("bad-name", ("lan0", "192.0.2.7", "Lamp"), 3)]
    assert list(notes.take()) == []


def test_a_flood_of_one_sender_leaves_room_in_the_notes_for_others() -> None:
    notes = RefusalNotes()
    for number in range(100_000):
        notes.note("bad-name", "lan0", "192.0.2.66", str(number))
    notes.note("bad-name", "lan0", "192.0.2.7", "Lamp")
    taken = list(notes.take())
    assert len(taken) == MAX_OF_SENDER + 1
    assert ("bad-name", ("lan0", "192.0.2.7", "Lamp"), 1) in taken


@given(st.lists(st.tuples(st.text(max_size=2), st.text(max_size=1), st.text(max_size=2))))
def test_notes_stay_within_their_bounds(those: list[tuple[str, str, str]]) -> None:
    notes = RefusalNotes()
    for cause, sender, name in those * 20:
        notes.note(cause, "lan0", sender, name)
    taken = list(notes.take())
    causes = [cause for cause, _, _ in taken]
    assert len(set(causes)) <= MAX_CAUSES
    assert all(causes.count(cause) <= MAX_NOTED for cause in causes)


def test_what_has_neither_sender_nor_name_is_not_noted_and_all_is_counted() -> None:
    health = Health()
    health.drop("flood")
    health.drop("off-link", interface="lan0", sender="192.0.2.7")
    assert health.dropped == {"flood": 1, "off-link": 1}
    assert list(health.refused.take()) == [("off-link", ("lan0", "192.0.2.7", ""), 1)]


def test_what_is_refused_again_is_one_entry_and_the_newest() -> None:
    kept = RefusalList()
    kept.add(ONE)
    kept.add(replace(ONE, at=2.0, name="other"))
    kept.add(replace(ONE, at=3.0, times=2))
    assert [(one.at, one.name, one.times) for one in kept.newest()] == [
        (3.0, "Lamp", 3), (2.0, "other", 1),
    ]  # fmt: skip


def test_a_flood_of_one_sender_or_cause_hides_no_other() -> None:
    kept = RefusalList()
    kept.add(ONE)
    kept.add(replace(ONE, cause="unresolved", sender=""))
    for number in range(1000):
        kept.add(replace(ONE, at=2.0 + number, sender="192.0.2.66", name=str(number)))
    assert len(kept) == MAX_KEPT + 1
    assert ONE in kept.newest()
    assert kept.newest()[0].name == "999"


def test_a_list_stays_within_its_bounds() -> None:
    kept = RefusalList()
    for number in range(5000):
        kept.add(replace(ONE, sender=str(number), cause=f"cause-{number % 100}"))
    assert len(kept) == MAX_LISTED * MAX_KEPT
    assert len(CAUSES) <= MAX_LISTED


def causes_of(tree: ast.AST) -> Iterator[str]:
    """Yield the causes that a module writes out, of what it refuses with a sender or a name."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        is_noted = called == "drop" and {"sender", "name"} & {one.arg for one in node.keywords}
        cause = node.args[0]
        if (is_noted or called == "UnreadableAnswer") and isinstance(cause, ast.Constant):
            yield str(cause.value)


def test_each_cause_has_a_meaning() -> None:
    modules = (Path(gatewayd.__file__).parent / "discovery").rglob("*.py")
    found = {cause for path in modules for cause in causes_of(ast.parse(path.read_text()))}
    assert len(found) > 40
    assert found <= CAUSES.keys()
