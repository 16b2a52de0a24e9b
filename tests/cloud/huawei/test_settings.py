"""What is wrong with the settings of an instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.huawei.settings import HuaweiCertificates, HuaweiGateway, HuaweiSettings


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"host": "192.0.2.7"}, "SNI"),
        ({"products": ("a/b",)}, "products: each must be"),
        ({"gateway": HuaweiGateway("p", "gw", "secret", "a/+/b")}, "gateway.device_id must be"),
        ({"gateway": HuaweiGateway("p", "g w")}, "gateway.device must be"),
        ({"gateway": HuaweiGateway("p", "g"), "certificates": None}, "add the table"),
    ],
)
def test_settings_that_are_wrong(wrong: dict[str, Any], words: str) -> None:
    own = HuaweiCertificates(Path("template.json"))
    given: dict[str, Any] = {"host": "iot.example.com", "certificates": own} | wrong
    (problem,) = HuaweiSettings(**given).problems()
    assert words in problem
