"""The settings of an instance, and the rules of fields, by the vectors and at their bounds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.huawei import settings
from gatewayd.cloud.huawei.settings import HuaweiCertificates, HuaweiGateway, HuaweiSettings
from gatewayd.cloud.huawei.template_device import RULES
from gatewayd.settings.build import SettingsBuilder
from gatewayd.settings.files import Document, Problems
from tests.cloud.huawei.vectors import SELF_REGISTRATION


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"host": "192.0.2.7"}, "SNI"),
        ({"products": ("a/b",)}, "products: each must be"),
        ({"services": {"a/b": "climate"}}, "services: each product ID must be"),
        ({"services": {"p": "a:b"}}, "services.p: the service ID must be"),
        ({"gateway": HuaweiGateway("p", "gw", "secret", "a/+/b")}, "gateway.device_id must be"),
        ({"gateway": HuaweiGateway("p", "g w")}, "gateway.device must be"),
        ({"gateway": HuaweiGateway("p", "g"), "certificates": None}, "add the table"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], words: str) -> None:
    own = HuaweiCertificates(Path("template.json"))
    values: dict[str, Any] = {"host": "iot.example.com", "certificates": own} | wrong
    (problem,) = HuaweiSettings(**values).problems()
    assert words in problem


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("0123456789.st1.iotda-device.cn-east-3.myhuaweicloud.com", "CN East-Shanghai1"),
        ("0123456789.ST1.IoTDA-Device.CN-East-3.MyHuaweiCloud.com.", "CN East-Shanghai1"),
        ("iot-mqtts.cn-north-4.myhuaweicloud.com", "basic edition"),
        ("0123456789.st1.iotda-device.cn-north-4.myhuaweicloud.com", None),
        ("cn-east-3.iotda-device.example.com", None),
        ("iot.example.com", None),
    ],
)
def test_the_host_shows_where_there_may_be_no_self_registration(
    host: str, words: str | None
) -> None:
    own = HuaweiCertificates(Path("template.json"))
    found = list(HuaweiSettings(host=host, certificates=own).warnings())
    assert [words in warning for warning in found if words] == [True] * (words is not None)
    assert len(found) == (words is not None)
    assert not list(HuaweiSettings(host=host).warnings()), "sub-devices are not limited"


def build(**values: object) -> HuaweiSettings | None:
    """Build the settings from a table; None if it has a mistake."""
    problems = Problems()
    builder = SettingsBuilder(Document(Path("x.toml"), {}, {}), problems)
    return builder.build(HuaweiSettings, {"host": "iot.example.com", **values}, ("cloud", "x"))


def test_the_port_is_that_of_mqtts() -> None:
    made = build()
    assert made is not None
    assert (made.port, made.keepalive) == (8883, 120)


@pytest.mark.parametrize(("seconds", "taken"), [(29, 0), (30, 1), (1200, 1), (1201, 0)])
def test_the_keepalive_is_one_that_the_platform_takes(seconds: int, taken: bool) -> None:
    """30 to 1200 s ("MQTT Connection Authentication", iot_06_v5_3009)."""
    assert (build(keepalive=seconds) is not None) == taken


def test_keys_are_as_in_the_vendors_examples() -> None:
    """The platform documents RSA of 2048 bits alone ("X.509 Certificate Authentication")."""
    assert HuaweiCertificates(Path("template.json")).key_algorithm == "rsa-2048"


EXPRESSIONS = SELF_REGISTRATION["rules"]["regex_fullmatch"]
NEAR = st.text(st.sampled_from("aZ09_-.:?'#(),&%@! \n一龥龦é"), max_size=6)


def test_each_expression_has_a_rule() -> None:
    assert RULES.keys() == EXPRESSIONS.keys()


@pytest.mark.parametrize("field", EXPRESSIONS)
@given(text=NEAR)
def test_rules_agree_with_the_expressions(field: str, text: str) -> None:
    assert (RULES[field].fault(text) == "") == bool(re.fullmatch(EXPRESSIONS[field], text))


@pytest.mark.parametrize(
    ("rule", "longest"),
    [
        (settings.NODE_ID, 64),
        (settings.PRODUCT_ID, 36),
        (settings.DEVICE_ID, 128),
        (settings.DEVICE_NAME, 256),
        (settings.TAG_KEY, 64),
        (settings.TAG_VALUE, 128),
        (settings.TEMPLATE_NAME, 128),
        (settings.DESCRIPTION, 2048),
    ],
)
def test_bounds(rule: settings.Field, longest: int) -> None:
    assert not rule.fault("a" * longest)
    assert f"1 to {longest} " in rule.fault("a" * (longest + 1))
    assert rule.fault("")


@pytest.mark.parametrize("name", ["模板", "a b", "a.b", "a\n"])
def test_the_name_of_a_template_takes_the_narrower_reading(name: str) -> None:
    assert settings.TEMPLATE_NAME.fault(name)


def test_a_short_id_is_allowed_and_unwise() -> None:
    assert not settings.NODE_ID.fault("c1")
    assert "4" in settings.NODE_ID.advice("c1")
    assert not settings.NODE_ID.advice("c100")
    assert not settings.PRODUCT_ID.advice("p")


def test_the_default_of_a_device_id() -> None:
    assert settings.default_device_id("a_b", "c_d") == "a_b_c_d"
