"""A site that an operator misconfigured for the Alibaba cloud: the demo fails, and names why."""

from __future__ import annotations

import pytest

from gatewayd.simulator import demo
from gatewayd.simulator.alibaba.account import OTHER_REGION

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        ("route", "node type"),  # page 89298: a gateway sub-device does not connect for itself
        ("region", f".iot-as-mqtt.{OTHER_REGION}.aliyuncs.com"),  # 147356: endpoints of a region
        ("model", "RelativeHumidity"),  # 89301: what the model of the product lacks
    ],
)
def test_the_demo_fails_and_names_the_mistake(
    mistake: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.run(["--children", "3", "--mistake", mistake]) == 1
    assert named in capsys.readouterr().err
