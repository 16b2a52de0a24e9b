"""The condition of the messages: which of several causes is named, and what is logged when."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from gatewayd.device.message import DropReason
from gatewayd.messages.condition import (
    BLOCKED,
    DROPPED,
    EXPECTED,
    QUIET,
    READY,
    ConditionReporter,
    condition,
)


def test_every_reason_is_explained_and_has_a_code_of_its_own() -> None:
    assert set(DROPPED) == set(DropReason)
    assert len({reason.code for reason in DROPPED.values()}) == len(DropReason)
    assert all(reason.text for reason in DROPPED.values())
    assert all(reason.remedy for why, reason in DROPPED.items() if why not in EXPECTED)


def test_what_is_expected_is_no_drop() -> None:
    assert condition(blocked=False, recent=dict.fromkeys(sorted(EXPECTED), 9)) == READY
    assert condition(blocked=False, recent={DropReason.RATE: 0}) == READY


@pytest.mark.parametrize("why", sorted(set(DropReason) - EXPECTED))
def test_any_other_drop_is_named(why: DropReason) -> None:
    found = condition(blocked=False, recent={why: 1, DropReason.FORGOTTEN: 100})
    assert (found.state, found.reason) == ("dropping", DROPPED[why])
    assert found.of_all is (why in {DropReason.TOTAL, DropReason.CORRUPT})


def test_what_concerns_all_is_named_before_what_is_frequent_and_blocked_before_both() -> None:
    recent = {DropReason.RATE: 1000, DropReason.TOTAL: 1, DropReason.AGE: 2000}
    assert condition(blocked=False, recent=recent).reason is DROPPED[DropReason.TOTAL]
    assert condition(blocked=True, recent=recent).reason is BLOCKED
    del recent[DropReason.TOTAL]
    assert condition(blocked=False, recent=recent).reason is DROPPED[DropReason.AGE]


class Journal(logging.Handler):
    """The names of the entries that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        entry = (getattr(record, "message_id", ""), getattr(record, "reason", ""))
        self.entries.append(entry)


@pytest.fixture
def journal(caplog: pytest.LogCaptureFixture) -> Iterator[Journal]:
    kept = Journal()
    caplog.set_level(logging.INFO, "gatewayd.messages.condition")
    logging.getLogger("gatewayd.messages.condition").addHandler(kept)
    yield kept
    logging.getLogger("gatewayd.messages.condition").removeHandler(kept)


def test_each_cause_is_logged_once_until_all_is_well(journal: Journal) -> None:
    reporter = ConditionReporter()
    dropped = {DropReason.RATE: 0, DropReason.SHARE: 0, DropReason.FORGOTTEN: 0}
    reporter.update(dropped, 0, blocked=False)
    assert journal.entries == []

    dropped[DropReason.RATE] = 5
    reporter.update(dropped, 2, blocked=False)
    dropped[DropReason.SHARE] = 9  # now the more frequent one
    reporter.update(dropped, 4, blocked=False)
    dropped[DropReason.RATE] = 50  # and back
    reporter.update(dropped, 6, blocked=False)
    named = [("messages-dropped", "dropped-rate"), ("messages-dropped", "dropped-share")]
    assert journal.entries == named
    assert reporter.now.state == "dropping"

    dropped[DropReason.FORGOTTEN] = 7
    reporter.update(dropped, 6 + QUIET - 1, blocked=False)
    assert reporter.now.state == "dropping"
    reporter.update(dropped, 6 + QUIET, blocked=False)
    assert reporter.now == READY
    reporter.update(dropped, 9 + QUIET, blocked=False)
    assert journal.entries == [*named, ("messages-recovered", "")]

    dropped[DropReason.RATE] = 51
    reporter.update(dropped, 10 + QUIET, blocked=False)
    assert journal.entries[3:] == named[:1], "the next episode has its own entries"


def test_a_full_disk_is_logged_at_once_and_recovers_at_once(journal: Journal) -> None:
    reporter = ConditionReporter()
    reporter.update({}, 0, blocked=True)
    reporter.update({}, 2, blocked=True)
    reporter.update({}, 4, blocked=False)
    assert [name for name, _ in journal.entries] == ["messages-blocked", "messages-recovered"]
