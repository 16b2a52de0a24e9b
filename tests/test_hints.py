"""Every command that a remedy, an entry of the catalogue or a manual page prints can be run so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatewayd.device.reason import Reason, addressed
from tests.support.hints import (
    CATALOGUE,
    MANUALS,
    NEEDS_MORE,
    ROOT,
    Hint,
    commands,
    complaint,
    hints,
    literals,
)
from tests.system.hint_plan import PLAN, entry_of, to_run


def cannot_be_run(hint: Hint) -> str:
    """Return why a command cannot be run as it is printed; "" if it can, or is a name."""
    why = complaint(hint)
    is_name = NEEDS_MORE in why and not any(word.startswith("-") for word in hint.words[1:])
    is_help = hint.place.startswith("gatewayd/cli/")
    in_a_remedy = (hint.place.endswith(".py") and not is_help) or hint.place == CATALOGUE.name
    return "" if is_name and not in_a_remedy else why


def test_every_command_can_be_run_as_it_is_printed() -> None:
    found = [(hint, why) for hint in hints() if (why := cannot_be_run(hint))]
    assert not found, "\n".join(f"{one.place}: {' '.join(one.words)}: {why}" for one, why in found)


def test_it_is_planned_how_each_command_is_run() -> None:
    """tests/system/test_hints.py runs it so on a booted gateway."""
    unplanned = [" ".join(words) for words in to_run() if entry_of(words) not in PLAN]
    assert not unplanned, "\n".join(["add these to tests/system/hint_plan.py:", *unplanned])


def test_no_plan_is_without_a_command() -> None:
    assert {entry_of(words) for words in to_run()} == PLAN.keys()


def test_there_are_hints_of_each_kind() -> None:
    places = {hint.place for hint in hints()}
    assert {"gatewayd.catalog", "gatewayd.8", "README.md"} <= places
    assert sum(place.endswith(".py") for place in places) > 15
    assert len(hints()) > 80


@pytest.mark.parametrize(("text", "words"), [
    ("run gatewayctl retry CHILD.", ["gatewayctl", "retry", "CHILD"]),
    ("see gatewayctl ca show --cloud CLOUD, and", None),
    ("gatewayctl lists them", None),
    ("gatewayd --check-config reports", ["gatewayd", "--check-config"]),
    ("gatewayctl door authority > ca.pem", ["gatewayctl", "door", "authority"]),
    ("    gatewayctl vault init --recovery recovery.pem", None),
])  # fmt: skip
def test_commands_are_found(text: str, words: list[str] | None) -> None:
    found = [list(hint.words) for hint in commands(text, "")]
    if words is not None:
        assert found == [words]


def test_what_is_no_command_is_a_complaint() -> None:
    assert complaint(Hint("x", ("gatewayctl", "status")))
    assert complaint(Hint("x", ("gatewayctl", "ca", "show", "--provider", "east")))
    assert not complaint(Hint("x", ("gatewayctl", "retry", "CHILD")))


BUS_WORDS = re.compile(
    r"\b(?:[Cc]all|then|;) (?:Retry|Reload|Renew|Reregister|Approve|Forget|Reject)\b"
)


def test_no_remedy_has_words_of_the_bus_or_sudo() -> None:
    for path in sorted((ROOT / "gatewayd").rglob("*.py")):
        for text in literals(path.read_text()):
            assert not BUS_WORDS.search(text), (path, text)
            assert "sudo " not in text, (path, text)
    assert "sudo " not in CATALOGUE.read_text()


def test_a_remedy_names_child_and_cloud() -> None:
    reason = Reason("x", "", "Run gatewayctl ca show --cloud CLOUD, then retry CHILD.")
    made = addressed(reason, "child-1", "east").remedy
    assert made == "Run gatewayctl ca show --cloud east, then retry child-1."
    assert "CLOUD" in addressed(reason, "child-1", "").remedy


@pytest.mark.parametrize("page", MANUALS, ids=lambda page: page.name)
def test_no_macro_of_a_page_has_a_quote_that_is_not_closed(page: Path) -> None:
    """A stray one is printed."""
    macros = [
        line for line in page.read_text().replace("\\\n", "").splitlines()
        if line.startswith(".") and not line.startswith('.\\"')
    ]  # fmt: skip
    assert macros
    assert [line for line in macros if line.count('"') % 2] == []
