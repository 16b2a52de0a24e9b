"""Log records become journal entries with fields, or lines; each entry has its explanation."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatewayd.device import lifecycle as lc
from gatewayd.runtime import journal as log
from gatewayd.runtime.journal import EVENT_MESSAGES, MESSAGE_IDS, message_id
from gatewayd.storage.reconcile import FindingKind
from systemd import journal as journal_of_systemd

TOP = Path(__file__).parents[2]
CATALOG = (TOP / "packaging/catalog/gatewayd.catalog").read_text()


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("gatewayd")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


class Journal:
    """A journal in memory."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def __call__(self, message: str, /, **fields: str | int) -> None:
        self.entries.append({"MESSAGE": message, **fields})


@pytest.fixture
def journal() -> Journal:
    return Journal()


def logger(journal: Any) -> logging.Logger:
    log.setup("info", log.JournalHandler(journal))
    return logging.getLogger("gatewayd.test")


def test_what_a_record_is_about_becomes_fields(journal: Journal) -> None:
    about = {
        "device": "child-1", "provider": "huawei", "state": "online", "reason": "no-rule",
        "attempt": 3, "rule": "meters", "address": "10.0.0.1", "event": "SessionOpened",
    }  # fmt: skip
    logger(journal).warning("It is %s.", "so", extra=about)
    (entry,) = journal.entries
    expected = {
        "MESSAGE": "It is so.", "PRIORITY": 4, "SYSLOG_IDENTIFIER": "gatewayd",
        "LOGGER": "gatewayd.test", "GATEWAYD_DEVICE": "child-1", "GATEWAYD_PROVIDER": "huawei",
        "GATEWAYD_STATE": "online", "GATEWAYD_REASON": "no-rule", "GATEWAYD_ATTEMPT": "3",
        "GATEWAYD_RULE": "meters", "GATEWAYD_ADDRESS": "10.0.0.1",
        "GATEWAYD_EVENT": "SessionOpened",
    }  # fmt: skip
    assert {key: entry[key] for key in expected} == expected
    assert entry["CODE_FILE"] == __file__


def test_an_entry_is_found_by_its_id(journal: Journal) -> None:
    ours = logger(journal)
    ours.info("Sealed.", extra={"message_id": "store-sealed"})
    ours.info("Held.", extra={"event": "Held", "reason": "no-rule"})
    ours.info("Online.", extra={"event": "SessionOpened"})
    ids = [entry.get("MESSAGE_ID") for entry in journal.entries]
    assert ids == [MESSAGE_IDS["store-sealed"], MESSAGE_IDS["approval-needed"], None]


def test_fields_without_a_value_are_left_out(journal: Journal) -> None:
    logger(journal).info("Hello.", extra={"device": ""})
    assert not [key for key in journal.entries[0] if key.startswith("GATEWAYD_")]


def test_levels_become_priorities(journal: Journal) -> None:
    ours = logger(journal)
    log.set_level("debug")
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(ours, level)("Hello.")
    assert [entry["PRIORITY"] for entry in journal.entries] == [7, 6, 4, 3, 2]


def test_the_level_is_ours_alone(journal: Journal) -> None:
    log.setup("debug", log.JournalHandler(journal))
    logging.getLogger("asyncio").info("No.")
    logging.getLogger("asyncio").warning("Yes.")
    logging.getLogger("zeroconf").warning("No: it may quote a packet.")
    logging.getLogger("gatewayd.x").debug("Yes.")
    assert [entry["MESSAGE"] for entry in journal.entries] == ["Yes.", "Yes."]


def test_control_characters_are_escaped_and_messages_cut(journal: Journal) -> None:
    ours = logger(journal)
    ours.info("a\x1b[2J\nb\u202e%s", "x" * 5000, extra={"address": "1\n2"})
    (entry,) = journal.entries
    assert entry["MESSAGE"].startswith(r"a\x1b[2J\nb\u202ex")
    assert len(entry["MESSAGE"]) < 2 * log.MAX_MESSAGE
    assert entry["GATEWAYD_ADDRESS"] == r"1\n2"


def fail() -> None:
    try:
        os.environ["CANARY"]
    except KeyError as error:
        raise ValueError("CANARY") from error


def test_an_exception_shows_its_place_and_not_its_text(journal: Journal) -> None:
    ours = logger(journal)
    try:
        fail()
    except ValueError:
        ours.exception("It went wrong.")
    text = journal.entries[0]["MESSAGE"]
    assert text.startswith("It went wrong.\nValueError at\n  test_journal.py:")
    assert "KeyError at" in text
    assert "CANARY" not in text


def test_a_journal_that_fails_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def full(message: str, /, **fields: str | int) -> None:
        raise OSError("no room")

    logger(full).warning("Hello.")
    assert "no room" in capsys.readouterr().err


def test_the_real_journal_takes_an_entry(capsys: pytest.CaptureFixture[str]) -> None:
    logger(journal_of_systemd.send).warning("A test of %s.", "gatewayd", extra={"device": "\ud800"})
    assert capsys.readouterr().err == ""


def test_a_level_can_be_changed(journal: Journal) -> None:
    ours = logger(journal)
    ours.debug("No.")
    log.set_level("debug")
    ours.debug("Yes.")
    assert [entry["MESSAGE"] for entry in journal.entries] == ["Yes."]


def test_the_handler_fits_how_the_process_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "err").open("w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.delenv("JOURNAL_STREAM", raising=False)
        assert isinstance(log.handler(), log.StderrHandler)
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert isinstance(log.handler(), log.JournalHandler)


def test_a_line_on_stderr_begins_with_level_and_device() -> None:
    out = io.StringIO()
    log.setup("info", log.StderrHandler(out))
    logging.getLogger("gatewayd.x").info("Hello.", extra={"device": "child-1"})
    logging.getLogger("gatewayd.x").warning("Hello\x07.")
    assert out.getvalue() == "info: child-1: Hello.\nwarning: Hello\\x07.\n"


def test_a_cause_is_logged_once(journal: Journal) -> None:
    ours = logger(journal)
    for device in ("child-1", "child-1", "child-2"):
        ours.warning("The disk is full.", extra={"device": device, "once": "disk-full"})
        ours.warning("Always.")
    logged = [entry.get("GATEWAYD_DEVICE", "") for entry in journal.entries]
    assert logged == ["child-1", "", "", "child-2", ""]


def test_causes_are_remembered_in_bounded_memory() -> None:
    once = log.OncePerCause()
    assert all(once.first(n) for n in range(log.MAX_CAUSES + 1))
    assert not once.first(1)
    assert once.first(0), "the oldest was forgotten"
    assert once.first(2), "so was the next, for the one that came back"
    assert not once.first(1)


def test_the_journal_is_recognised_by_its_stream(tmp_path: Path) -> None:
    with (tmp_path / "err").open("w") as stream:
        status = os.fstat(stream.fileno())
        place = f"{status.st_dev}:{status.st_ino}"
        assert log.under_journal({"JOURNAL_STREAM": place}, stream)
        assert not log.under_journal({"JOURNAL_STREAM": "1:2"}, stream)
        assert not log.under_journal({}, stream)
    assert not log.under_journal({"JOURNAL_STREAM": place}, stream)
    assert not log.under_journal({"JOURNAL_STREAM": place}, io.StringIO())


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
