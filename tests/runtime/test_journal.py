"""Log records become journal entries with fields, or lines; each entry has its explanation."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.device import lifecycle as lc
from gatewayd.runtime import journal as log
from gatewayd.runtime.datagrams import DatagramSocket
from gatewayd.runtime.journal import EVENT_MESSAGES, MESSAGE_IDS, message_id
from gatewayd.storage.reconcile import FindingKind

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


def unpacked(entry: bytes) -> dict[str, str]:
    """Read an entry in the journal's protocol."""
    values, rest = dict[str, str](), entry
    while rest:
        name, end, rest = re.split(b"([=\n])", rest, maxsplit=1)
        if end == b"=":
            value, _, rest = rest.partition(b"\n")
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + size], rest[9 + size :]
        values[name.decode()] = value.decode()
    return values


class Journal:
    """A journal in memory.  error: raised instead of reading."""

    def __init__(self) -> None:
        self.entries: list[dict[str, str]] = []
        self.error: OSError | None = None

    def send(self, entry: bytes) -> None:
        if self.error:
            raise self.error
        self.entries.append(unpacked(entry))


@pytest.fixture
def journal() -> Journal:
    return Journal()


def logger(journal: Journal | DatagramSocket) -> logging.Logger:
    log.setup("info", log.JournalHandler(journal.send))
    return logging.getLogger("gatewayd.test")


def test_what_a_record_is_about_becomes_fields(journal: Journal) -> None:
    about = {
        "device": "child-1", "provider": "huawei", "state": "online", "reason": "no-rule",
        "attempt": 3, "rule": "meters", "address": "10.0.0.1", "event": "SessionOpened",
    }  # fmt: skip
    logger(journal).warning("It is %s.", "so", extra=about)
    (entry,) = journal.entries
    expected = {
        "MESSAGE": "It is so.", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "gatewayd",
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
    assert [int(entry["PRIORITY"]) for entry in journal.entries] == [7, 6, 4, 3, 2]


def test_the_level_is_ours_alone(journal: Journal) -> None:
    log.setup("debug", log.JournalHandler(journal.send))
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


FULL = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def test_what_a_journal_does_not_read_waits_in_its_order(journal: Journal) -> None:
    ours = logger(journal)
    journal.error = FULL
    for number in range(3):
        ours.warning("Entry %d.", number)
    assert log.flush()
    journal.error = None
    assert not log.flush()
    messages = [entry["MESSAGE"] for entry in journal.entries]
    assert messages[:3] == ["Entry 0.", "Entry 1.", "Entry 2."]
    assert " 0 entries" in messages[3]
    ours.warning("Later.")
    assert [entry["MESSAGE"] for entry in journal.entries[4:]] == ["Later."]


@pytest.mark.parametrize(("text", "kept"), [("x", log.MAX_WAITING), ("x" * 1500, 640)])
def test_what_waits_is_bounded_and_what_is_lost_is_counted(
    journal: Journal, text: str, kept: int
) -> None:
    ours, handler = logger(journal), logging.getLogger().handlers[0]
    assert isinstance(handler, log.JournalHandler)
    journal.error = FULL
    for _ in range(log.MAX_WAITING + 500):
        ours.warning(text)
    assert handler._bytes <= log.MAX_WAITING_BYTES
    waiting = len(handler._waiting)
    assert 0.9 * kept <= waiting <= kept
    journal.error = None
    log.flush()
    assert f" {log.MAX_WAITING + 500 - waiting} entries" in journal.entries[-1]["MESSAGE"]
    assert handler._bytes == 0


def test_an_entry_that_the_journal_refuses_holds_up_no_other(journal: Journal) -> None:
    ours = logger(journal)
    journal.error = OSError(errno.EMSGSIZE, "Message too long")
    ours.warning("Large.")
    journal.error = None
    ours.warning("Small.")
    small, report = [entry["MESSAGE"] for entry in journal.entries]
    assert small == "Small."
    assert " 1 entries" in report


def test_a_log_call_that_does_not_fit_is_logged(journal: Journal) -> None:
    logger(journal).warning("Too few: %s %s.", 1)
    assert "Too few" in journal.entries[0]["MESSAGE"]


def test_a_socket_that_is_not_read_stops_nothing(tmp_path: Path) -> None:
    address = str(tmp_path / "journal")
    unix = socket.AF_UNIX, socket.SOCK_DGRAM
    with socket.socket(*unix) as journald, DatagramSocket(address) as sender:
        journald.bind(address)
        journald.settimeout(60)
        ours = logger(sender)
        for number in range(1000):
            ours.warning("Entry %d.", number, extra={"device": "\ud800"})
        entries = list[dict[str, str]]()
        while not entries or "reads again" not in entries[-1]["MESSAGE"]:
            entries.append(unpacked(journald.recv(1 << 16)))
            log.flush()
    assert [entry["MESSAGE"] for entry in entries[:-1]] == [f"Entry {n}." for n in range(1000)]
    assert " 0 entries" in entries[-1]["MESSAGE"]


def test_a_journal_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    address = str(tmp_path / "journal")
    unix = socket.AF_UNIX, socket.SOCK_DGRAM
    with socket.socket(*unix) as journald, DatagramSocket(address) as sender:
        logger(sender).warning("Early.")
        journald.bind(address)
        log.flush()
        assert unpacked(journald.recv(1 << 16))["MESSAGE"] == "Early."


def test_a_pipe_that_is_not_read_stops_nothing() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "w") as writer:
        log.setup("info", log.StderrHandler(writer))
        ours = logging.getLogger("gatewayd.test")
        for _ in range(1000):
            ours.warning("x" * 1000)
        os.set_blocking(reader.fileno(), False)
        before = reader.read()
        ours.warning("Back.")
        lines = reader.read().decode().splitlines()
    assert before.startswith(b"warning: xxx")
    lost = 1000 - before.count(b"\n")
    assert lines == [
        f"warning: {lost} log lines were lost, as they were not read",
        "warning: Back.",
    ]


def test_a_pipe_whose_reader_is_gone_stops_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as writer:
        log.setup("info", log.StderrHandler(writer))
        logging.getLogger("gatewayd.test").warning("Hello.")


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
        with contextlib.closing(log.handler()) as made:
            assert isinstance(made, log.JournalHandler)


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
