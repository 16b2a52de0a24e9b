"""The endpoint that follows from the settings, and settings that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaProduct, AlibabaSettings
from gatewayd.settings.build import SettingsBuilder
from gatewayd.settings.files import Document, Problems

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
        ({"products": {"a1": AlibabaProduct("name", Path("/a"))}}, "has both secret_credential"),
        (
            {"products": {"a1": AlibabaProduct("name", None, "prefix.", Path("/a"))}},
            "has both device_credentials",
        ),
        ({"gateway": AlibabaGateway("a|b", "gateway-1", "name")}, "gateway.product must be"),
        ({"gateway": AlibabaGateway("a1", "gateway-1")}, "gateway needs one of"),
        (
            {"gateway": AlibabaGateway("a1", "gateway-1", "name", Path("/a"))},
            "gateway needs one of",
        ),
        (
            {
                "gateway": AlibabaGateway("a1", "gateway-1", "name", register=True),
                "products": {"a1": FILE},
            },
            "gateway needs one of",
        ),
        (
            {"gateway": AlibabaGateway("a1", "gateway-1", register=True)},
            "needs the secret of products.a1",
        ),
        (
            {
                "gateway": AlibabaGateway("a1", "gateway-1", register=True),
                "products": {"a1": AlibabaProduct()},
            },
            "needs the secret of products.a1",
        ),
    ],
)
def test_what_is_wrong_is_told(wrong: dict[str, Any], word: str) -> None:
    (problem,) = AlibabaSettings(**({"host": "mqtt.example"} | wrong)).problems()
    assert word in problem


@pytest.mark.parametrize(
    "right",
    [
        {"products": {"a1": AlibabaProduct()}},
        {"gateway": AlibabaGateway("a1", "gateway-1", "name")},
        {"gateway": AlibabaGateway("a1", "gateway-1", secret_file=Path("/a"))},
        {"gateway": AlibabaGateway("a1", "gateway-1", register=True), "products": {"a1": FILE}},
    ],
)
def test_what_is_right_is_taken(right: dict[str, Any]) -> None:
    assert not list(AlibabaSettings(host="mqtt.example", **right).problems())


@pytest.mark.parametrize("credential", ["", "gateway-secret"])
def test_the_gateway_is_built_from_a_table(credential: str) -> None:
    own = {"product": "a1", "device": "gateway-1", "children": 9, "secret_credential": credential}
    problems = Problems()
    builder = SettingsBuilder(Document(Path("x.toml"), {}, {}), problems)
    made = builder.build(AlibabaSettings, {"host": "h", "gateway": own}, ("cloud", "x"))
    if credential:
        assert made is not None
        assert made.gateway == AlibabaGateway("a1", "gateway-1", credential, children=9)
        assert not problems.found
    else:
        assert made is None
        assert "gateway needs one of" in problems.found[0].text
