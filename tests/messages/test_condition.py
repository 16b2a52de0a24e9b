"""The condition of the messages: which of several causes is named, and what is logged when."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import fields

import pytest

from gatewayd.device.message import DropReason
from gatewayd.device.reason import Reason
from gatewayd.device.views import MessageCounts, MessageStatistics
from gatewayd.messages.condition import (
    DROPPED,
    EXPECTED,
    QUIET,
    READY,
    UNUSABLE,
    ConditionReporter,
    condition,
)
from gatewayd.messages.settings import ChildMessageSettings, MessageSettings


def test_every_reason_is_explained_and_has_a_code_of_its_own() -> None:
    assert set(DROPPED) == set(DropReason)
    assert len({reason.code for reason in DROPPED.values()}) == len(DropReason)
    assert all(reason.text for reason in DROPPED.values())
    assert all(reason.remedy for why, reason in DROPPED.items() if why not in EXPECTED)


SECTIONS = {"messages": MessageSettings, "messages.child": ChildMessageSettings}


@pytest.mark.parametrize("reason", DROPPED.values(), ids=lambda reason: reason.code)
def test_a_remedy_names_settings_as_they_are_written(reason: Reason) -> None:
    for setting, section in re.findall(r"`([^`]+)` under \[([\w.]+)\]", reason.remedy):
        assert setting in {one.name for one in fields(SECTIONS[section])}


def test_what_is_expected_is_no_drop() -> None:
    assert condition("running", dict.fromkeys(sorted(EXPECTED), 9)) == READY
    assert condition("running", {DropReason.RATE: 0}) == READY


@pytest.mark.parametrize("why", sorted(set(DropReason) - EXPECTED))
def test_any_other_drop_is_named(why: DropReason) -> None:
    found = condition("running", {why: 1, DropReason.FORGOTTEN: 100})
    assert (found.state, found.reason) == ("dropping", DROPPED[why])
    assert found.of_all is (why in {DropReason.TOTAL, DropReason.CORRUPT})


def test_what_concerns_all_is_named_before_what_is_frequent_and_blocked_before_both() -> None:
    recent: dict[str, int] = {DropReason.RATE: 1000, DropReason.TOTAL: 1, DropReason.AGE: 2000}
    assert condition("running", recent).reason is DROPPED[DropReason.TOTAL]
    assert condition("blocked", recent).reason == UNUSABLE["blocked"]
    assert condition("full", recent).of_all
    del recent[DropReason.TOTAL]
    assert condition("running", recent).reason is DROPPED[DropReason.AGE]


def test_why_the_outbox_cannot_store_is_passed_on() -> None:
    found = condition("blocked", {}, "I/O error.").reason
    assert (found.code, found.text) == (UNUSABLE["blocked"].code, "I/O error.")
    assert found.remedy == UNUSABLE["blocked"].remedy


def test_what_is_not_enabled_is_not_ready() -> None:
    assert condition("disabled", {}).state == "disabled"


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


class Outbox:
    """Drops messages, and has them reported at a time."""

    def __init__(self) -> None:
        self.reporter = ConditionReporter()
        self._dropped: dict[str, int] = {}

    def drop(self, at: float, state: str = "running", **dropped: int) -> str:
        """Drop so many more; return the state that is reported then."""
        for word, number in dropped.items():
            reason = word.replace("_", "-")
            self._dropped[reason] = self._dropped.get(reason, 0) + number
        total = MessageCounts(dropped=dict(self._dropped))
        self.reporter.update(MessageStatistics(state=state, total=total), at)
        return self.reporter.now.state


def test_each_cause_is_logged_once_until_all_is_well(journal: Journal) -> None:
    outbox = Outbox()
    assert outbox.drop(0) == "ready"
    assert journal.entries == []

    assert outbox.drop(2, rate=5) == "dropping"
    outbox.drop(4, share=9)  # now the more frequent one
    outbox.drop(6, rate=50)  # and back
    named = [("messages-dropped", "dropped-rate"), ("messages-dropped", "dropped-share")]
    assert journal.entries == named

    assert outbox.drop(6 + QUIET - 1, forgotten=7) == "dropping"
    assert outbox.drop(6 + QUIET) == "ready"
    outbox.drop(9 + QUIET)
    assert journal.entries == [*named, ("messages-recovered", "")]

    outbox.drop(10 + QUIET, rate=1)
    assert journal.entries[3:] == named[:1], "the next episode has its own entries"


def test_the_end_of_a_full_disk_is_logged_at_once(journal: Journal) -> None:
    outbox = Outbox()
    assert outbox.drop(0, "blocked") == "blocked"
    assert outbox.drop(2, "full", total=3) == "full"
    assert journal.entries == [], "the outbox logs it, with the error"
    assert outbox.drop(4, "full") == "full"
    assert outbox.drop(2 + QUIET) == "ready"
    assert journal.entries == [("messages-recovered", "")]
