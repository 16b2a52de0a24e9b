"""The subject that makes a template yield a wanted device."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.huawei.subject import PREFIX, subject_of
from gatewayd.cloud.huawei.subject import DiagnosticKind as Kind
from gatewayd.cloud.huawei.template import ProvisioningTemplate, Ref, Tag, lint
from gatewayd.cloud.huawei.template_device import (
    DesiredDevice,
    ProvisionedDevice,
    preview,
    solve_subject,
)
from tests.cloud.huawei import vectors

C, O, OU, DNQ, ST, CN, SN = (  # noqa: E741  # as X.520 calls it
    Ref(PREFIX + word)
    for word in ("country", "organization", "organizational_unit", "distinguished_name_qualifier",
                 "state_name", "common_name", "serial_number")
)  # fmt: skip
PLAIN = ProvisioningTemplate((CN.parameter,), CN, "p1")
WANTED = DesiredDevice("node-1", "p1")


def of_vectors(name: str) -> ProvisioningTemplate:
    template = lint(vectors.template(name)).template
    assert template is not None
    return template


def check_name(template: ProvisioningTemplate, wanted: DesiredDevice) -> list[tuple[Kind, str]]:
    chosen = solve_subject(template, wanted)
    assert (chosen.values, chosen.device) == ({}, None)
    assert all(finding.remedy for finding in chosen.findings)
    return [(finding.kind, finding.place) for finding in chosen.findings]


def test_a_plain_template() -> None:
    chosen = solve_subject(PLAIN, WANTED)
    assert chosen.values == {CN.parameter: "node-1"}
    assert chosen.device == ProvisionedDevice("p1_node-1", "node-1", "p1")
    assert chosen.x509_name().rfc4514_string() == "CN=node-1"


ALL = DesiredDevice(
    "node-1", "p1", device_id="edge-1", name="meter",
    fixed={"country": "CN", "state_name": "GuangDong", OU.parameter: "plant-7"},
)  # fmt: skip


def test_a_template_that_refers_to_all() -> None:
    chosen = solve_subject(of_vectors("T2_all_refs"), ALL)
    assert chosen.device == ProvisionedDevice(
        "edge-1", "node-1", "p1", "meter",
        (("country", "CN"), ("state", "GuangDong"), ("ou", "plant-7")),
    )  # fmt: skip
    assert chosen.values[DNQ.parameter] == "edge-1"


def test_the_default_of_a_device_id_has_an_underscore_that_not_all_attributes_hold() -> None:
    wanted = dataclasses.replace(ALL, device_id="")
    assert check_name(of_vectors("T2_all_refs"), wanted) == [
        (Kind.ILLEGAL, "resources.device.device_id")
    ]
    template = ProvisioningTemplate((CN.parameter, O.parameter), CN, "p1", device_id=O)
    assert solve_subject(template, WANTED).values[O.parameter] == "p1_node-1"


def test_a_name_that_nobody_wants_is_the_node_id() -> None:
    chosen = solve_subject(of_vectors("T1_static_product"), DesiredDevice(
        "node-1", "642bf260f2f9030e44210d8d", fixed={"organizational_unit": "plant-7"}
    ))  # fmt: skip
    assert chosen.values == {
        SN.parameter: "node-1", CN.parameter: "node-1", OU.parameter: "plant-7"
    }  # fmt: skip


def test_further_attributes_are_added() -> None:
    chosen = solve_subject(
        PLAIN, DesiredDevice("node-1", "p1", fixed={"organization": "Example Edge"})
    )
    assert chosen.x509_name().rfc4514_string() == "CN=node-1,O=Example Edge"


def test_a_device_id_that_all_devices_would_have_is_refused() -> None:
    """Each would take the place, and the sessions, of the others."""
    there = [(Kind.CONFLICT, "resources.device.device_id")]
    fixed = dataclasses.replace(WANTED, fixed={"organization": "ACME"})
    template = ProvisioningTemplate((CN.parameter, O.parameter), CN, "p1", device_id=O)
    assert check_name(template, fixed) == there
    assert solve_subject(template, dataclasses.replace(fixed, device_id="ACME")).device
    by_product = ProvisioningTemplate((CN.parameter, OU.parameter), CN, OU, device_id=OU)
    assert check_name(by_product, WANTED) == there
    by_node = ProvisioningTemplate((CN.parameter,), CN, "p1", device_id=CN)
    assert solve_subject(by_node, WANTED).device == ProvisionedDevice("node-1", "node-1", "p1")


def test_a_device_id_that_is_the_default_needs_no_place() -> None:
    assert solve_subject(PLAIN, dataclasses.replace(WANTED, device_id="p1_node-1")).device


@pytest.mark.parametrize(
    ("template", "wanted", "expected"),
    [
        (PLAIN, DesiredDevice("node-1", "p2"), [(Kind.OTHERWISE, "resources.device.product_id")]),
        (PLAIN, DesiredDevice("node-1", "p1", device_id="d1"),
         [(Kind.OTHERWISE, "resources.device.device_id")]),
        (PLAIN, DesiredDevice("node-1", "p1", name="meter"),
         [(Kind.OTHERWISE, "resources.device.device_name")]),
        (ProvisioningTemplate((C.parameter,), C, "p1"), WANTED,
         [(Kind.ILLEGAL, "resources.device.node_id")]),
        (ProvisioningTemplate((SN.parameter,), SN, "p1"), DesiredDevice("node_1", "p1"),
         [(Kind.ILLEGAL, "resources.device.node_id")]),
        (ProvisioningTemplate((CN.parameter,), CN, CN), WANTED,
         [(Kind.CONFLICT, "resources.device.product_id")]),
        (PLAIN, DesiredDevice("node-1", "p1", fixed={"common_name": "x"}),
         [(Kind.CONFLICT, "fixed")]),
        (PLAIN, DesiredDevice("node-1", "p1", fixed={"email": "x"}),
         [(Kind.UNKNOWN_PARAMETER, "fixed")]),
        (PLAIN, DesiredDevice("node-1", "p1", fixed={"country": "CHN"}), [(Kind.ILLEGAL, "fixed")]),
        (ProvisioningTemplate((CN.parameter, O.parameter), CN, "p1", tags=(Tag("org", O),)), WANTED,
         [(Kind.ATTRIBUTE_MISSING, f"parameters.{O.parameter}")]),
        (PLAIN, DesiredDevice("aa:bb:cc:dd:ee:ff", "p1"),
         [(Kind.ILLEGAL, "resources.device.node_id")]),
        (PLAIN, DesiredDevice("", "p1"), [(Kind.ILLEGAL, "resources.device.node_id")]),
        (ProvisioningTemplate((CN.parameter, O.parameter), CN, "p" * 36, device_id=O),
         DesiredDevice("n" * 40, "p" * 36), [(Kind.ILLEGAL, "resources.device.device_id")]),
    ],
)  # fmt: skip
def test_why_there_is_none(
    template: ProvisioningTemplate,
    wanted: DesiredDevice,
    expected: list[tuple[Kind, str]],
) -> None:
    assert check_name(template, wanted) == expected


def test_a_wrong_product_is_explained() -> None:
    (finding,) = solve_subject(PLAIN, DesiredDevice("node-1", "p2")).findings
    assert str(finding) == (
        "error: resources.device.product_id is 'p1' in the template, where 'p2' is wanted; take "
        "the template of that product"
    )


REFS = st.sampled_from([O, OU, ST, CN, SN])
WORD = st.from_regex(r"[A-Za-z0-9_-]{1,70}", fullmatch=True)


@st.composite
def templates(draw: st.DrawFn) -> ProvisioningTemplate:
    node_id, product_id = draw(REFS), draw(REFS | st.just("p1"))
    device_id, name = draw(st.none() | REFS), draw(st.none() | REFS)
    tags = tuple(Tag(key, draw(REFS)) for key in draw(st.sets(st.sampled_from("abc"))))
    bare = ProvisioningTemplate((), node_id, product_id, device_id, name, tags)
    return dataclasses.replace(bare, parameters=tuple(sorted(bare.references())))


@given(
    template=templates(),
    wanted=st.builds(
        DesiredDevice,
        node_id=WORD,
        product_id=WORD | st.just("p1"),
        device_id=WORD | st.just(""),
        name=WORD | st.just(""),
        fixed=st.dictionaries(st.sampled_from(["organization", "state_name", "country"]), WORD),
    ),
)
def test_what_is_chosen_yields_what_is_wanted(
    template: ProvisioningTemplate, wanted: DesiredDevice
) -> None:
    chosen = solve_subject(template, wanted)
    assert (chosen.device is None) == any(finding.fatal for finding in chosen.findings)
    if chosen.device is None:
        return
    device = preview(template, subject_of(chosen.x509_name())).device
    assert device == chosen.device
    assert (device.node_id, device.product_id) == (wanted.node_id, wanted.product_id)
    assert wanted.device_id in ("", device.device_id)
    assert wanted.name in ("", device.name)
