"""What may be configured of births, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.config import check
from gatewayd.discovery.births.catalogue import BirthPlan, dialects_of, fill
from gatewayd.discovery.births.discoverer import Births
from gatewayd.discovery.births.port import BirthQuestion
from gatewayd.discovery.births.settings import BirthsSettings, DialectName
from gatewayd.errors import ConfigError
from gatewayd.plugins import Plugins
from gatewayd.settings.files import ConfigPaths
from tests.discovery.births.published import ALL

DOOR = '[messages.doors.plant]\nhost = "broker.example"\n'
BIRTHS = '[discovery.births]\nkind = "mqtt-births"\ndoors = ["plant"]\ndialects = ["tasmota"]\n'


def problems_of(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "gatewayd.toml").write_text(text)
    paths = ConfigPaths.of(tmp_path / "gatewayd.toml")
    return [str(one).replace(f"{tmp_path}/", "") for one in check(paths, Plugins.installed())]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DOOR + BIRTHS, []),
        (BIRTHS, ["discovery.births.doors: there is no [messages.doors.plant]"]),
        (DOOR, ["messages.doors.plant: topics is empty"]),
        (
            DOOR + DOOR.replace("plant", "other") + BIRTHS,
            ["messages.doors.other: topics is empty"],
        ),
        (DOOR + BIRTHS.replace("tasmota", "tasmoto"), ["discovery.births.dialects[1] must be"]),
        (DOOR + BIRTHS + 'availability = ["a/#"]\n', ["in which + stands for a whole level"]),
        (DOOR + BIRTHS + 'availability = ["+"]\n', ["must be a topic"]),
        (DOOR + BIRTHS + 'thin_edge_root = "/te"\n', ["must be levels of a topic"]),
    ],
)
def test_a_door_is_for_messages_or_for_births(tmp_path: Path, text: str, words: list[str]) -> None:
    found = problems_of(tmp_path, text)
    assert len(found) == len(words), found
    assert all(word in one for word, one in zip(words, found, strict=True)), found


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"doors": ()}, "doors must name"),
        ({"doors": ("a", "a")}, "doors must name"),
        ({"dialects": ()}, "dialects must name"),
        ({"dialects": (DialectName.SHELLY, DialectName.SHELLY)}, "dialects must name"),
        ({"availability": ("a",) * 33}, "availability lists 33"),
    ],
)
def test_settings_that_cannot_be_are_refused(changed: dict[str, object], word: str) -> None:
    settings = replace(ALL, **changed)  # type: ignore[arg-type]  # of any field
    (problem,) = settings.problems()
    assert word in problem
    with pytest.raises(ConfigError, match=word):
        Births("births", settings)


def test_every_dialect_has_a_name_and_its_prefix() -> None:
    named = [one.name for one in dialects_of(ALL)]
    assert named == [str(one) for one in DialectName]
    own = replace(ALL, zigbee2mqtt_base="z/m", home_assistant_prefix="ha", thin_edge_root="x")
    filters = [one.filter for one in BirthPlan("births", own).subscriptions]
    assert {"z/m/bridge/devices", "ha/+/+/config", "x/+/+/+/+"} <= set(filters)
    assert len(filters) == len(set(filters)), "each filter once, whoever wants it"


def test_nothing_is_asked_without_leave() -> None:
    plan = BirthPlan("births", replace(ALL, ask=False))
    assert plan.question("esphome", ()) is None
    assert not any(one.names_only for one in plan.subscriptions)
    allowed = BirthPlan("births", ALL)
    asked = allowed.question("esphome", ())
    assert asked is not None
    assert asked.topic == "esphome/discover"
    assert allowed.question("zigbee2mqtt", ()) is None
    assert Births("births", replace(ALL, ask=False)).transmissions() == ()
    sent = Births("births", ALL).transmissions()
    assert {one.purpose for one in sent} >= {"asks all ESPHome nodes", "asks one Tasmota device"}
    assert all("door plant" in one.to and one.every == 0 for one in sent)
    (rebirth,) = [one for one in sent if "NCMD" in one.to]
    assert rebirth.occasion.endswith("at most every 60 min")


@pytest.mark.parametrize("names", [["a/b"], ["+"], ["#"], [""], ["$x"], ["a\n"], ["x" * 129], []])
def test_a_name_that_is_no_level_of_a_topic_fills_no_question(names: list[str]) -> None:
    assert fill(BirthQuestion("cmnd/{}/STATUS", b"", 60.0, "x"), names) is None


def test_the_usual_settings_are_small() -> None:
    made = BirthsSettings(doors=("a",), dialects=(DialectName.TASMOTA,))
    assert not made.ask
    assert not list(made.problems())
