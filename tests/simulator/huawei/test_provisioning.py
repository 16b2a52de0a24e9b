"""What device a template makes of a certificate, and which templates there may be."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from gatewayd.simulator import pki
from gatewayd.simulator.huawei.platform.provisioning import (
    PARAMETERS,
    BadCertificate,
    BadTemplate,
    check_body,
    preparse,
)
from gatewayd.simulator.huawei.x509 import UnreadableCertificate, read_der, read_pem
from tests.simulator.huawei.client import (
    BEGIN,
    BY_NAME,
    CN,
    DEVICE_CA,
    END,
    OU,
    STRANGE_CA,
    VECTORS,
    certificate,
)

REGISTRATION = VECTORS["self_registration"]


def result(template: object, pem: str) -> dict[str, Any]:
    """Parse, and write it as the vectors do."""
    try:
        parsed = preparse(template, read_pem(pem))
    except BadTemplate as error:
        return {"error": error.text}
    named = {"device_name": parsed.device_name} if parsed.device_name else {}
    return {
        "ok": {
            "node_id": parsed.node_id,
            "product_id": parsed.product_id,
            "device_id": parsed.device_id,
            "tags": [dict(tag) for tag in parsed.tags],
            "policy_ids": list(parsed.policy_ids),
            **named,
        }
    }


@pytest.mark.parametrize(
    "case", REGISTRATION["cases"], ids=lambda case: f"{case['template']}+{case['certificate']}"
)
def test_the_cases_of_the_vectors(case: dict[str, Any]) -> None:
    pem = REGISTRATION["device_certificates"][case["certificate"]]["pem"]
    assert result(REGISTRATION["templates"][case["template"]], pem) == case["expect"]


def test_the_parameters_and_fingerprints_of_the_vectors() -> None:
    assert dict(PARAMETERS) == REGISTRATION["rules"]["attribute_oids"]
    authority = read_pem(REGISTRATION["ca_pem"])
    for one in REGISTRATION["device_certificates"].values():
        info = read_pem(one["pem"])
        assert (info.sha1, info.sha256) == (one["fingerprint_sha1"], one["fingerprint_sha256"])
        assert info.matches(one["fingerprint_sha1"].upper())
        assert info.signed_by(authority)
        assert not info.authority


def changed(path: str, value: object) -> Any:
    """Return the template with another value somewhere; None takes one away."""
    body: Any = copy.deepcopy(BY_NAME)
    *parents, last = path.split("/")
    at = body
    for parent in parents:
        at = at[parent]
    at[last] = value
    if value is None:
        del at[last]
    return body


DEVICE = "resources/device"
NODE = {"ref": "iotda::certificate::common_name"}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ([], "template.structure:template_body"),
        ({}, "template.structure:resources"),
        (changed("parameters", None), "template.structure:parameters"),
        (changed("parameters/iotda::certificate::common_name", {"type": "Int"}),
         "template.parameter_type:iotda::certificate::common_name"),
        (changed("parameters/iotda::certificate::locality", {"type": "String"}),
         "template.unknown_parameter:iotda::certificate::locality"),
        (changed(DEVICE, None), "template.structure:device"),
        (changed(f"{DEVICE}/node_id", None), "template.structure:node_id"),
        (changed(f"{DEVICE}/node_id", "fixed"), "template.static_not_allowed:node_id"),
        (changed(f"{DEVICE}/device_id", "fixed"), "template.static_not_allowed:device_id"),
        (changed(f"{DEVICE}/device_name", "fixed"), "template.static_not_allowed:device_name"),
        (changed(f"{DEVICE}/node_id", {"Ref": NODE["ref"]}), "template.structure:node_id"),
        (changed(f"{DEVICE}/node_id", {"Fn::Split": [",", NODE]}), "template.structure:node_id"),
        (changed(f"{DEVICE}/node_id", {"ref": "iotda::certificate::country"}),
         "template.undeclared_reference:iotda::certificate::country"),
        (changed(f"{DEVICE}/product_id", None), "template.structure:product_id"),
        (changed(f"{DEVICE}/product_id", "a b"), "value.illegal:product_id"),
        (changed(f"{DEVICE}/tags", {}), "template.structure:tags"),
        (changed(f"{DEVICE}/tags", [{"tag_key": "a"}]), "template.structure:tag_value"),
        (changed(f"{DEVICE}/tags", [{"tag_key": "a b", "tag_value": NODE}]),
         "value.illegal:tag_key"),
        (changed(f"{DEVICE}/tags", [{"tag_key": "a", "tag_value": NODE}] * 11),
         "template.structure:tags"),
        (changed("resources/policy", {"policy_ids": "all"}), "template.structure:policy_ids"),
        (changed("resources/policy", {"policy_ids": [1]}), "template.structure:policy_ids"),
        (changed("resources/policy", {"policy_ids": ["p"] * 6}), "template.structure:policy_ids"),
    ],
)  # fmt: skip
def test_templates_that_do_not_do(body: object, complaint: str) -> None:
    with pytest.raises(BadTemplate) as caught:
        check_body(body)
    assert caught.value.text == complaint
    assert not isinstance(caught.value, BadCertificate)


@pytest.mark.parametrize(
    "body",
    [
        BY_NAME,
        changed("parameters/iotda::certificate::common_name", {"type": "string"}),
        changed(f"{DEVICE}/tags", []),
        {**BY_NAME, "resources": {**BY_NAME["resources"], "policy": None}},
    ],
)
def test_templates_that_do(body: object) -> None:
    check_body(body)


def test_a_repeated_attribute_is_harmless_if_it_is_not_declared() -> None:
    shown = certificate("gw-1", (OU, "a"), (OU, "b"))
    assert result(BY_NAME, shown.certificate_pem)["ok"]["node_id"] == "gw-1"
    twice = certificate("gw-1", (CN, "gw-2"))
    assert result(BY_NAME, twice.certificate_pem) == {
        "error": "cert.ambiguous_parameter:iotda::certificate::common_name"
    }


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n", "\u2603" * 9])
def test_what_is_no_certificate(text: str) -> None:
    with pytest.raises(UnreadableCertificate):
        read_pem(text)
    with pytest.raises(UnreadableCertificate):
        read_der(text.encode())


def test_the_signer_of_a_certificate() -> None:
    shown = read_pem(certificate("gw-1").certificate_pem)
    assert shown.signed_by(read_pem(DEVICE_CA.pem))
    namesake = pki.make_ca("Device CA", BEGIN, END)
    assert not shown.signed_by(read_pem(namesake.pem))
    assert not shown.signed_by(read_pem(STRANGE_CA.pem))


def test_an_authority_of_another_kind_has_signed_nothing() -> None:
    """The platform documents RSA; EC is played too, and nothing else."""
    key, name = ed25519.Ed25519PrivateKey.generate(), x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    made = builder.not_valid_before(BEGIN).not_valid_after(END).sign(key, None)
    info = read_der(made.public_bytes(serialization.Encoding.DER))
    assert not info.signed_by(info)
    assert not info.authority
    assert (info.common_name, info.owner) == ("", "")
