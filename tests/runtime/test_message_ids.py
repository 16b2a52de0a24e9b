"""Each entry of the journal that is explained is written somewhere, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

from gatewayd.device import lifecycle as lc
from gatewayd.runtime.journal import EVENT_MESSAGES, MESSAGE_IDS, message_id
from gatewayd.storage.reconcile import FindingKind

TOP = Path(__file__).parents[2]
CATALOG = (TOP / "packaging/catalog/gatewayd.catalog").read_text()


def _named_by_log_calls() -> set[str]:
    sources = (path.read_text() for path in (TOP / "gatewayd").rglob("*.py"))
    return {name for text in sources for name in re.findall(r'"message_id": "([\w-]+)"', text)}


def test_the_catalogue_explains_every_entry_once() -> None:
    explained = re.findall(r"^-- (\w+)$", CATALOG, re.M)
    assert sorted(explained) == sorted(MESSAGE_IDS.values())
    assert len(set(explained)) == len(explained)
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in explained)


def test_every_entry_is_logged_and_what_is_logged_is_an_entry() -> None:
    found_at_the_start = {kind.value for kind in FindingKind} & set(MESSAGE_IDS)
    logged = _named_by_log_calls() | set(EVENT_MESSAGES.values()) | found_at_the_start
    assert logged == set(MESSAGE_IDS)


def test_what_names_an_entry_is_an_event() -> None:
    assert {key.partition(" ")[0] for key in EVENT_MESSAGES} <= {
        event.__name__ for event in lc.EVENTS
    }


def test_a_reason_may_make_an_event_another_entry() -> None:
    assert message_id("", "Held", "no-rule") == MESSAGE_IDS["approval-needed"]
    assert message_id("", "Held", "identity-conflict") == MESSAGE_IDS["identity-conflict"]
    assert message_id("", "Seen") == ""
    assert message_id("secret-lost", "Held") == MESSAGE_IDS["secret-lost"]


def test_the_catalogue_has_the_parts_that_journalctl_wants() -> None:
    for entry in CATALOG.split("\n-- ")[1:]:
        head, _, body = entry.partition("\n\n")
        assert "\nSubject: " in head
        assert "\nDefined-By: gatewayd\n" in head
        assert body.strip()
        assert max(map(len, head.splitlines())) <= 80
