"""The settings, the endpoint that follows from them, and the root certificate it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba import settings as endpoint
from gatewayd.cloud.alibaba.settings import (
    GLOBALSIGN,
    PRIVATE,
    AlibabaGateway,
    AlibabaInstance,
    AlibabaProduct,
    AlibabaSettings,
)
from gatewayd.settings.build import SettingsBuilder
from gatewayd.settings.files import Document, Problems

OLD = "a1Gt7n5yTt8.iot-as-mqtt.cn-shanghai.aliyuncs.com"
NEW = "iot-06z00abcdefgh1j.mqtt.iothub.aliyuncs.com"


@pytest.mark.parametrize(
    ("host", "region", "instance_id", "expected"),
    [
        ("mqtt.example", "cn-shanghai", "iot-1", "mqtt.example"),
        ("", "cn-shanghai", "", OLD),
        ("", "cn-shanghai", "iot-06z00abcdefgh1j", NEW),
        ("", "", "", ""),
    ],
)
def test_hosts(host: str, region: str, instance_id: str, expected: str) -> None:
    assert endpoint.host_of("a1Gt7n5yTt8", host, region, instance_id) == expected
    if expected:
        settings = AlibabaSettings(host=host, region=region, instance_id=instance_id)
        assert settings.host_for("a1Gt7n5yTt8") == expected


def test_an_old_public_endpoint_needs_a_product() -> None:
    assert endpoint.host_of("", region="cn-shanghai") == ""


@pytest.mark.parametrize(
    ("host", "instance"),
    [
        (OLD, AlibabaInstance.OLD_PUBLIC),
        (OLD.upper() + ".", AlibabaInstance.OLD_PUBLIC),
        (NEW, AlibabaInstance.NEW),
        ("mqtt.example", AlibabaInstance.CUSTOM),
        (OLD + ".example", AlibabaInstance.CUSTOM),
        ("evil-mqtt.iothub.aliyuncs.com.example", AlibabaInstance.CUSTOM),
    ],
)
def test_instances(host: str, instance: AlibabaInstance) -> None:
    assert endpoint.instance_of(host) is instance


@pytest.mark.parametrize(
    ("host", "port", "root"),
    [
        (OLD, 8883, PRIVATE),
        (NEW, 8883, PRIVATE),
        (OLD, 1883, GLOBALSIGN),
        (OLD, 443, GLOBALSIGN),
        (OLD, 9, None),
        ("mqtt.example", 8883, None),
    ],
)
def test_the_root_that_a_port_needs(
    host: str, port: int, root: endpoint.AlibabaRoot | None
) -> None:
    assert endpoint.root_for(host, port) is root


def test_odd_ports() -> None:
    assert endpoint.odd_port(OLD, 9)
    assert not endpoint.odd_port(OLD, 443)
    assert not endpoint.odd_port("mqtt.example", 9)


def test_roots_are_known_by_their_whole_fingerprint() -> None:
    assert endpoint.root_of(PRIVATE.sha256.lower()) is PRIVATE
    colons = ":".join(GLOBALSIGN.sha256[n : n + 2] for n in range(0, 64, 2))
    assert endpoint.root_of(colons) is GLOBALSIGN
    assert endpoint.root_of(PRIVATE.sha256[:-1]) is None
    assert endpoint.root_of("") is None
    assert all(len(bytes.fromhex(root.sha256)) == 32 for root in endpoint.ROOTS)


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
def test_what_is_wrong_is_named(wrong: dict[str, Any], word: str) -> None:
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


@pytest.mark.parametrize(("seconds", "taken"), [(29, 0), (60, 1), (1200, 1), (1201, 0)])
def test_the_keepalive_is_one_that_the_cloud_takes(seconds: int, taken: bool) -> None:
    """30 to 1200 s ("Establish MQTT connections over TCP", document_detail/73742)."""
    problems = Problems()
    builder = SettingsBuilder(Document(Path("x.toml"), {}, {}), problems)
    builder.build(AlibabaSettings, {"host": "h", "keepalive": seconds}, ("cloud", "x"))
    assert bool(problems.found) != taken


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
