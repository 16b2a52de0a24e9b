"""What a template makes of a certificate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from gatewayd.cloud.huawei.subject import PREFIX, read_certificate, subject_of
from gatewayd.cloud.huawei.template import (
    DiagnosticKind,
    ProvisioningTemplate,
    Ref,
    Tag,
    TemplateDiagnostic,
    lint,
)
from gatewayd.cloud.huawei.template_device import Preview, ProvisionedDevice, preview
from tests.cloud.huawei import vectors

KINDS = {
    "cert.missing_parameter": DiagnosticKind.ATTRIBUTE_MISSING,
    "cert.ambiguous_parameter": DiagnosticKind.ATTRIBUTE_REPEATED,
    "value.illegal": DiagnosticKind.ILLEGAL,
    "template.undeclared_reference": DiagnosticKind.UNDECLARED,
}
"""The classes of errors in the vectors."""

CN, OU, SN = Ref(f"{PREFIX}common_name"), Ref(f"{PREFIX}organizational_unit"), "serial_number"
PLAIN = ProvisioningTemplate((CN.parameter,), CN, "p1")


def run(template: str, certificate: str) -> Preview:
    linted = lint(vectors.template(template))
    if linted.template is None:
        return Preview(None, linted.diagnostics)
    subject = subject_of(read_certificate(vectors.certificate(certificate)).subject)
    return preview(linted.template, subject)


def fields(device: ProvisionedDevice | None) -> dict[str, Any]:
    """Return a device as the vectors have it: without a name that is not set."""
    assert device is not None
    tags = [{"tag_key": key, "tag_value": value} for key, value in device.tags]
    name = {"device_name": device.name} if device.name else {}
    return name | {
        "node_id": device.node_id,
        "product_id": device.product_id,
        "device_id": device.device_id,
        "tags": tags,
        "policy_ids": list(device.policy_ids),
    }


def first_fatal(diagnostics: Iterable[TemplateDiagnostic]) -> TemplateDiagnostic:
    return next(diagnostic for diagnostic in diagnostics if diagnostic.fatal)


@pytest.mark.parametrize(
    "case",
    vectors.SELF_REGISTRATION["cases"],
    ids=lambda case: f"{case['template']}-{case['certificate']}",
)
def test_cases(case: dict[str, Any]) -> None:
    made = run(case["template"], case["certificate"])
    if "ok" in case["expect"]:
        assert fields(made.device) == case["expect"]["ok"]
        return
    assert made.device is None
    kind, _, about = case["expect"]["error"].partition(":")
    diagnostic = first_fatal(made.diagnostics)
    assert diagnostic.kind is KINDS[kind]
    assert about in (diagnostic.parameter, diagnostic.place.rpartition(".")[2])
    assert diagnostic.remedy


def test_the_longest_node_id() -> None:
    device = run("T3_cn_is_node", "D5_cn_max64").device
    assert device is not None
    assert device.node_id == "n" * 64


def test_a_mac_with_colons_is_explained() -> None:
    (diagnostic,) = run("T3_cn_is_node", "D3_mac_colons").diagnostics
    assert str(diagnostic) == (
        "error: resources.device.node_id would be 'aa:bb:cc:dd:ee:ff' (CN of the subject), and "
        "must be 1 to 64 characters: letters, digits, _ and -; issue a certificate whose CN is, "
        "say, 'aabbccddeeff'"
    )


def test_a_missing_attribute_is_explained() -> None:
    diagnostic = run("T1_static_product", "D2_cn_only").diagnostics[0]
    assert str(diagnostic) == (
        "error: parameters.iotda::certificate::serial_number has no value: the subject has no "
        "serialNumber; issue a certificate with serialNumber, or take the parameter out of the "
        "template"
    )


def test_every_missing_value_is_reported() -> None:
    diagnostics = run("T1_static_product", "D2_cn_only").diagnostics
    assert [diagnostic.parameter for diagnostic in diagnostics] == [PREFIX + SN, OU.parameter]


def test_an_empty_attribute_is_as_none() -> None:
    (diagnostic,) = preview(PLAIN, {CN.parameter: ("",)}).diagnostics
    assert diagnostic.kind is DiagnosticKind.ATTRIBUTE_MISSING


def test_a_repeated_attribute_is_refused_even_if_one_is_empty() -> None:
    (diagnostic,) = preview(PLAIN, {CN.parameter: ("a", "")}).diagnostics
    assert diagnostic.kind is DiagnosticKind.ATTRIBUTE_REPEATED


def test_a_repeated_attribute_of_no_concern_is_none() -> None:
    made = preview(PLAIN, {CN.parameter: ("node",), OU.parameter: ("a", "b")})
    assert made == Preview(ProvisionedDevice("p1_node", "node", "p1"), ())


def test_a_short_node_id_is_only_warned_of() -> None:
    made = preview(PLAIN, {CN.parameter: ("c1",)})
    assert made.device is not None
    assert [diagnostic.kind for diagnostic in made.diagnostics] == [DiagnosticKind.UNWISE]


def test_tags_of_one_key_are_refused() -> None:
    tags = (Tag("site", "a"), Tag(CN, "b"))
    (diagnostic,) = preview(
        ProvisioningTemplate((CN.parameter,), CN, "p1", tags=tags), {CN.parameter: ("site",)}
    ).diagnostics
    assert diagnostic.kind is DiagnosticKind.ILLEGAL
    assert "2 tags" in diagnostic.what
    assert "'site'" in diagnostic.what


def test_a_value_without_a_plain_form_has_another_remedy() -> None:
    (diagnostic,) = preview(PLAIN, {CN.parameter: ("网关",)}).diagnostics
    assert diagnostic.remedy == (
        "issue a certificate with another CN, or refer to another attribute"
    )
