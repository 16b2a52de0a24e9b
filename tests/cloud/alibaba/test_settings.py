"""The endpoint that follows from the settings, and settings that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba.settings import AlibabaProduct, AlibabaSettings

FILE = AlibabaProduct(secret_file=Path("/etc/gatewayd/secret"))


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        (AlibabaSettings(region="cn-shanghai"), "a1.iot-as-mqtt.cn-shanghai.aliyuncs.com"),
        (AlibabaSettings(instance_id="iot-06z"), "iot-06z.mqtt.iothub.aliyuncs.com"),
        (AlibabaSettings(region="cn-shanghai", instance_id="i"), "i.mqtt.iothub.aliyuncs.com"),
        (AlibabaSettings(host="mqtt.example", instance_id="iot-06z"), "mqtt.example"),
    ],
)
def test_the_host_is_given_or_derived(settings: AlibabaSettings, host: str) -> None:
    assert settings.host_for("a1") == host
    assert not list(settings.problems())


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"host": ""}, "set host, region or instance_id"),
        ({"region": "cn.shanghai"}, "region must be"),
        ({"instance_id": "a/b"}, "instance_id must be"),
        ({"securemode_register": 1}, "securemode_register must be 2 or -2"),
        ({"products": {"a|b": FILE}}, "1 to 20 letters"),
        ({"products": {"a" * 21: FILE}}, "1 to 20 letters"),
        ({"products": {"a1": AlibabaProduct()}}, "needs one of"),
        ({"products": {"a1": AlibabaProduct("name", Path("/a"))}}, "needs one of"),
    ],
)
def test_what_is_wrong_is_told(wrong: dict[str, Any], word: str) -> None:
    (problem,) = AlibabaSettings(**({"host": "mqtt.example"} | wrong)).problems()
    assert word in problem
