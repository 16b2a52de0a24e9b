"""Where the cloud is, and whose root certificate is needed there."""

from __future__ import annotations

import pytest

from gatewayd.cloud.alibaba import settings as endpoint
from gatewayd.cloud.alibaba.settings import GLOBALSIGN, PRIVATE, AlibabaInstance, AlibabaSettings

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
