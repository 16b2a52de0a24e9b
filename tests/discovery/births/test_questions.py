"""How often gatewayd publishes a question, whatever a discoverer requests."""

from __future__ import annotations

import pytest

from gatewayd import lan_discovery
from gatewayd.config import ConfiguredPlugin
from gatewayd.discovery.births.discoverer import Births
from gatewayd.discovery.births.port import BirthRequest
from gatewayd.lan_discovery import MOST_ASKED, BrokerBirths
from gatewayd.messages.door_settings import DoorSettings
from gatewayd.runtime.clock import Clock
from tests.discovery.births.broker import JoinedHelper, Plugged, no_secret
from tests.discovery.births.published import ALL


class Asking:
    """The way of requests to questions, on a clock of the test's, at a door that is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.asked: list[str] = []
        self.helper = JoinedHelper(Births("births", ALL))
        plugin = ConfiguredPlugin("births", "mqtt-births", Births, ALL)
        plugged = Plugged((plugin,), {"plant": DoorSettings(host="broker.example")})
        clock = Clock(lambda: self.now, lambda: 0, lambda: 0.5)
        self.births = BrokerBirths(plugged, no_secret, "host", clock, self.helper)  # type: ignore[arg-type]  # what it reads of these
        (reader,) = self.births._readers.values()
        monkeypatch.setattr(reader, "ask", self._ask)

    def _ask(self, topic: str, _payload: bytes) -> bool:
        self.asked.append(topic)
        return True

    def request(self, dialect: str, *names: str) -> None:
        self.helper._request(BirthRequest("births", "plant", dialect, names))


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asking:
    return Asking(monkeypatch)


@pytest.mark.parametrize(
    ("dialect", "names", "every"),
    [
        ("home-assistant", (), 6 * 3600.0),
        ("shelly-gen1", (), 3600.0),
        ("esphome", (), 900.0),
        ("esphome", ("zima",), 60.0),
        ("sparkplug-b", ("plant", "edge1"), 3600.0),
    ],
)
def test_a_question_leaves_as_seldom_as_its_dialect_says(
    asking: Asking, dialect: str, names: tuple[str, ...], every: float
) -> None:
    for moment in (0.0, 1.0, every - 1.0, every):
        asking.now = 1000.0 + moment
        asking.request(dialect, *names)
    assert len(asking.asked) == 2
    assert asking.births.counters()["births:not-asked"] == 2


def test_many_questions_do_not_make_another_leave_sooner(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lan_discovery, "MAX_ASKED", 3)
    asking.request("home-assistant")
    for number in range(10):
        asking.now += 61.0
        asking.request("tasmota", f"plug{number}")
        asking.request("home-assistant")
    assert asking.asked.count("homeassistant/status") == 1
    assert len(asking.births._not_before) <= 3


def test_a_minute_has_room_for_so_many_questions(asking: Asking) -> None:
    for number in range(2 * MOST_ASKED):
        asking.request("tasmota", f"plug{number}")
    assert len(asking.asked) == MOST_ASKED
    asking.now += 61.0
    asking.request("tasmota", "another")
    assert len(asking.asked) == MOST_ASKED + 1


def test_the_table_of_questions_is_bounded(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan_discovery, "MAX_ASKED", 3)
    for number in range(5):
        asking.request("tasmota", f"plug{number}")
    assert len(asking.asked) == 3
    assert len(asking.births._not_before) == 3
