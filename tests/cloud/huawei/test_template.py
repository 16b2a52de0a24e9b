"""A template is written as it was read."""

from __future__ import annotations

import json

import pytest

from gatewayd.cloud.huawei.template import ProvisioningTemplate, Ref, Tag, lint
from tests.cloud.huawei import vectors

CN, SN = "iotda::certificate::common_name", "iotda::certificate::serial_number"


@pytest.mark.parametrize("name", ["T1_static_product", "T2_all_refs", "T3_cn_is_node"])
def test_the_body_comes_back(name: str) -> None:
    template = lint(vectors.template(name)).template
    assert template is not None
    assert template.body() == vectors.SELF_REGISTRATION["templates"][name]


def test_the_request_comes_back() -> None:
    template = ProvisioningTemplate((CN,), Ref(CN), "p1", name="edge-gw", description="for_all")
    assert template.request() == {
        "template_name": "edge-gw",
        "description": "for_all",
        "template_body": template.body(),
    }
    assert lint(json.dumps(template.request()).encode()).template == template


def test_an_empty_description_is_left_out() -> None:
    assert "description" not in ProvisioningTemplate((CN,), Ref(CN), "p1", name="edge-gw").request()


def test_references_are_counted_once() -> None:
    template = ProvisioningTemplate(
        (CN, SN), Ref(CN), "p1", tags=(Tag("site", Ref(SN)), Tag(Ref(SN), "x"))
    )
    assert template.references() == {CN, SN}
