"""The demo is green, and red for a site with a common mistake, which it names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gatewayd.simulator import demo
from gatewayd.simulator.mistakes import MISTAKES

pytestmark = pytest.mark.integration

PATIENCE = 120.0
NAMED = {
    ("alibaba", "route"): ("node type", "sub-device"),
    ("alibaba", "region"): ("us-west-1.aliyuncs.com is the endpoint of its region",),
    ("alibaba", "model"): ("discards", "RelativeHumidity"),
    ("huawei", "host"): ("does not know the name", "Check host"),
    ("huawei", "instance"): ("Check that host is the domain", "does not know the CA"),
    ("huawei", "model"): ("discards", "unknown-property: climate.humidity"),
}
"""Cloud and mistake → what the demo says."""


def test_each_mistake_is_tried() -> None:
    assert set(NAMED) == {(cloud, name) for cloud, some in MISTAKES.items() for name in some}


@pytest.mark.parametrize(("cloud", "mistake"), NAMED)
def test_the_demo_names_a_mistake(cloud: str, mistake: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gatewayd.simulator.demo", "--children", "6", "--cloud", cloud,
         "--mistake", mistake],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "The demo failed" in ended.stderr
    for words in NAMED[cloud, mistake]:
        assert words in ended.stderr


def test_the_demo_ends_with_temperatures_at_the_cloud_and_nothing_lost() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gatewayd.simulator.demo", "--children", "3", "--outage", "0"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    _, _, end = ended.stdout.partition("The cloud has the temperature of all 3 children.")
    assert end.count("°C") == 3
    assert "dropped: none" in end


def test_a_mistake_belongs_to_a_cloud(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo.run(["--cloud", "alibaba", "--mistake", "host"])
    assert "--mistake takes" in capsys.readouterr().err
