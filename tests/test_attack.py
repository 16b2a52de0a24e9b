"""script/attack, shortened: every parser of foreign bytes; the fuzzer finds what is there."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from script.attacking.__main__ import main
from script.attacking.dead_cloud import TENTH, bounds, verdict
from script.attacking.fuzzer import Campaign, Parser
from script.attacking.parsers import parsers
from script.attacking.situations import SITUATIONS, TOP
from script.attacking.tally import Effort, Tally

INPUTS = 400
"""Of each parser; script/attack tries millions."""
PARSERS = parsers()
ENOUGH = 1_000_000
"""Inputs in which three octets are found one after the other; at once, they are one in 2^24."""


@pytest.mark.parametrize("parser", PARSERS, ids=lambda one: one.name)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_input_is_more_than_refused(parser: Parser) -> None:
    campaign = Campaign(parser, random.Random(17))
    campaign.run(60.0, INPUTS)
    assert not campaign.crashes
    assert campaign.inputs >= INPUTS
    assert campaign.edges


@pytest.mark.parametrize("parser", PARSERS, ids=lambda one: one.name)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_some_input_to_begin_with_is_understood(parser: Parser) -> None:
    understood = 0
    for seed in parser.seeds:
        try:
            parser.run(seed)
        except parser.refusals:
            continue
        understood += 1
    assert understood


def planted(data: bytes) -> None:
    """Fail at one beginning of 2^24, in three steps that coverage shows."""
    for place, octet in enumerate(b"BUG"):
        if data[place : place + 1] != bytes([octet]):
            return
    raise RuntimeError("found")


def test_a_fault_is_found_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("script.attacking.coverage.PRODUCT", __file__)
    campaign = Campaign(Parser("planted", planted, [b"nothing"]), random.Random(2))
    while not campaign.crashes and campaign.inputs < ENOUGH:
        campaign.run(60.0, campaign.inputs + 1000)
    assert [crash.data[:3] for crash in campaign.crashes] == [b"BUG"]
    assert campaign.crashes[0].what == "RuntimeError: found"


def test_a_slow_input_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("script.attacking.fuzzer.SLOW", -1.0)
    campaign = Campaign(Parser("slow", len, [b""]), random.Random(5))
    campaign.run(1.0, 10)
    assert [crash.what for crash in campaign.crashes] == ["it is slow"]


def test_a_campaign_can_be_repeated() -> None:
    (parser,) = (one for one in PARSERS if one.name == "what a child says")
    found = []
    for _ in range(2):
        campaign = Campaign(parser, random.Random(3))
        campaign.run(60.0, 200)
        found.append(campaign.corpus)
    assert found[0] == found[1]


def test_a_tally_adds_up_what_several_runs_have_done(tmp_path: Path) -> None:
    file = tmp_path / "tally.json"
    Tally(file).add("x", Effort(2.0, 30, 1))
    Tally(file).add("x", Effort(0.5, 10, 0))
    Tally(file).add("y", Effort(1.0, 5, 0))
    assert Tally(file).of("x") == Effort(2.5, 40, 1)
    assert Tally(file).of("y") == Effort(1.0, 5, 0)
    assert Tally(None).of("x") == Effort()


def test_a_campaign_goes_on_where_its_tally_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tally.json"
    words = ["parsers", "--only", "mDNS name", "what a child says", f"--tally={file}"]
    try:
        for seconds in (0.1, 0.1, 0.2):
            before = Tally(file).of("mDNS name")
            assert main([*words, f"--seconds={seconds}"]) == 0
            assert Tally(file).of("mDNS name").seconds >= seconds
            assert (Tally(file).of("mDNS name") == before) is (before.seconds >= seconds)
    finally:
        logging.disable(logging.NOTSET)
    shown = capsys.readouterr().out.splitlines()
    inputs = Tally(file).of("mDNS name").inputs
    assert f" {inputs} inputs" in shown[-3]
    assert shown[-1].startswith("2 parsers, 0 s, 0 crashes; seed ")
    assert main([*words, "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == ["mDNS name", "what a child says"]


def test_the_median_of_few_rounds_may_be_anything() -> None:
    assert bounds([1.0] * 6) == (-math.inf, math.inf)
    assert bounds([9.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0]) == (1.0, 9.0)
    assert bounds([float(one) for one in range(20)]) == (4.0, 15.0)


@pytest.mark.parametrize(
    ("ratios", "certain"),
    [
        ([1.0] * 6, None),
        ([1.0] * 7, True),
        ([TENTH, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2], True),
        ([1.2] * 7, False),
        ([1.0] * 6 + [1.2], None),
        ([1.0, 9.0] * 10, None),
        ([1.0] * 10 + [9.0, 0.1], True),  # what else the machine does decides nothing
    ],
)
def test_a_dead_cloud_is_judged_by_rounds_that_agree(
    ratios: list[float], certain: bool | None
) -> None:
    assert verdict(ratios) is certain


def _tests_in(place: Path) -> Iterator[Path]:
    """Yield a file of tests, or those of a folder."""
    yield from place.rglob("test_*.py") if place.is_dir() else filter(Path.is_file, [place])


def test_every_situation_is_played_by_tests_that_are_there() -> None:
    for files in SITUATIONS.values():
        assert all(any(_tests_in(TOP / file)) for file in files)
