"""The subject that makes a template yield a desired device."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.huawei.subject import PREFIX, subject_of
from gatewayd.cloud.huawei.template import DiagnosticKind as Kind
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
DESIRED = DesiredDevice("node-1", "p1")


def of_vectors(name: str) -> ProvisioningTemplate:
    template = lint(vectors.template(name)).template
    assert template is not None
    return template


def diagnostics_of(
    template: ProvisioningTemplate, desired: DesiredDevice
) -> list[tuple[Kind, str]]:
    solved = solve_subject(template, desired)
    assert (solved.values, solved.device) == ({}, None)
    assert all(diagnostic.remedy for diagnostic in solved.diagnostics)
    return [(diagnostic.kind, diagnostic.place) for diagnostic in solved.diagnostics]


def test_a_plain_template() -> None:
    solved = solve_subject(PLAIN, DESIRED)
    assert solved.values == {CN.parameter: "node-1"}
    assert solved.device == ProvisionedDevice("p1_node-1", "node-1", "p1")
    assert solved.x509_name().rfc4514_string() == "CN=node-1"


ALL = DesiredDevice(
    "node-1", "p1", device_id="edge-1", name="meter",
    fixed={"country": "CN", "state_name": "GuangDong", OU.parameter: "plant-7"},
)  # fmt: skip


def test_a_template_that_refers_to_all() -> None:
    solved = solve_subject(of_vectors("T2_all_refs"), ALL)
    assert solved.device == ProvisionedDevice(
        "edge-1", "node-1", "p1", "meter",
        (("country", "CN"), ("state", "GuangDong"), ("ou", "plant-7")),
    )  # fmt: skip
    assert solved.values[DNQ.parameter] == "edge-1"


def test_the_default_of_a_device_id_has_an_underscore_that_not_all_attributes_hold() -> None:
    desired = dataclasses.replace(ALL, device_id="")
    assert diagnostics_of(of_vectors("T2_all_refs"), desired) == [
        (Kind.ILLEGAL, "resources.device.device_id")
    ]
    template = ProvisioningTemplate((CN.parameter, O.parameter), CN, "p1", device_id=O)
    assert solve_subject(template, DESIRED).values[O.parameter] == "p1_node-1"


def test_a_name_that_is_not_desired_is_the_node_id() -> None:
    solved = solve_subject(of_vectors("T1_static_product"), DesiredDevice(
        "node-1", "642bf260f2f9030e44210d8d", fixed={"organizational_unit": "plant-7"}
    ))  # fmt: skip
    assert solved.values == {
        SN.parameter: "node-1", CN.parameter: "node-1", OU.parameter: "plant-7"
    }  # fmt: skip


def test_further_attributes_are_added() -> None:
    solved = solve_subject(
        PLAIN, DesiredDevice("node-1", "p1", fixed={"organization": "Example Edge"})
    )
    assert solved.x509_name().rfc4514_string() == "CN=node-1,O=Example Edge"


def test_a_device_id_that_all_devices_would_have_is_refused() -> None:
    """Each would take the place, and the sessions, of the others."""
    there = [(Kind.CONFLICT, "resources.device.device_id")]
    fixed = dataclasses.replace(DESIRED, fixed={"organization": "ACME"})
    template = ProvisioningTemplate((CN.parameter, O.parameter), CN, "p1", device_id=O)
    assert diagnostics_of(template, fixed) == there
    assert solve_subject(template, dataclasses.replace(fixed, device_id="ACME")).device
    by_product = ProvisioningTemplate((CN.parameter, OU.parameter), CN, OU, device_id=OU)
    assert diagnostics_of(by_product, DESIRED) == there
    by_node = ProvisioningTemplate((CN.parameter,), CN, "p1", device_id=CN)
    assert solve_subject(by_node, DESIRED).device == ProvisionedDevice("node-1", "node-1", "p1")


def test_a_device_id_that_is_the_default_needs_no_place() -> None:
    assert solve_subject(PLAIN, dataclasses.replace(DESIRED, device_id="p1_node-1")).device


@pytest.mark.parametrize(
    ("template", "desired", "expected"),
    [
        (PLAIN, DesiredDevice("node-1", "p2"), [(Kind.OTHERWISE, "resources.device.product_id")]),
        (PLAIN, DesiredDevice("node-1", "p1", device_id="d1"),
         [(Kind.OTHERWISE, "resources.device.device_id")]),
        (PLAIN, DesiredDevice("node-1", "p1", name="meter"),
         [(Kind.OTHERWISE, "resources.device.device_name")]),
        (ProvisioningTemplate((C.parameter,), C, "p1"), DESIRED,
         [(Kind.ILLEGAL, "resources.device.node_id")]),
        (ProvisioningTemplate((SN.parameter,), SN, "p1"), DesiredDevice("node_1", "p1"),
         [(Kind.ILLEGAL, "resources.device.node_id")]),
        (ProvisioningTemplate((CN.parameter,), CN, CN), DESIRED,
         [(Kind.CONFLICT, "resources.device.product_id")]),
        (PLAIN, DesiredDevice("node-1", "p1", fixed={"common_name": "x"}),
         [(Kind.CONFLICT, "fixed")]),
        (PLAIN, DesiredDevice("node-1", "p1", fixed={"email": "x"}),
         [(Kind.UNKNOWN_PARAMETER, "fixed")]),
        (PLAIN, DesiredDevice("node-1", "p1", fixed={"country": "CHN"}), [(Kind.ILLEGAL, "fixed")]),
        (ProvisioningTemplate((CN.parameter, O.parameter), CN, "p1", tags=(Tag("org", O),)),
         DESIRED, [(Kind.ATTRIBUTE_MISSING, f"parameters.{O.parameter}")]),
        (PLAIN, DesiredDevice("aa:bb:cc:dd:ee:ff", "p1"),
         [(Kind.ILLEGAL, "resources.device.node_id")]),
        (PLAIN, DesiredDevice("", "p1"), [(Kind.ILLEGAL, "resources.device.node_id")]),
        (ProvisioningTemplate((CN.parameter, O.parameter), CN, "p" * 36, device_id=O),
         DesiredDevice("n" * 40, "p" * 36), [(Kind.ILLEGAL, "resources.device.device_id")]),
    ],
)  # fmt: skip
def test_why_there_is_none(
    template: ProvisioningTemplate,
    desired: DesiredDevice,
    expected: list[tuple[Kind, str]],
) -> None:
    assert diagnostics_of(template, desired) == expected


def test_a_wrong_product_is_explained() -> None:
    (diagnostic,) = solve_subject(PLAIN, DesiredDevice("node-1", "p2")).diagnostics
    assert diagnostic.kind is Kind.OTHERWISE
    assert diagnostic.place == "resources.device.product_id"
    assert "'p1'" in diagnostic.what
    assert "'p2'" in diagnostic.what


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
    desired=st.builds(
        DesiredDevice,
        node_id=WORD,
        product_id=WORD | st.just("p1"),
        device_id=WORD | st.just(""),
        name=WORD | st.just(""),
        fixed=st.dictionaries(st.sampled_from(["organization", "state_name", "country"]), WORD),
    ),
)
def test_what_is_chosen_yields_what_is_wanted(
    template: ProvisioningTemplate, desired: DesiredDevice
) -> None:
    solved = solve_subject(template, desired)
    assert (solved.device is None) == any(diagnostic.fatal for diagnostic in solved.diagnostics)
    if solved.device is None:
        return
    device = preview(template, subject_of(solved.x509_name())).device
    assert device == solved.device
    assert (device.node_id, device.product_id) == (desired.node_id, desired.product_id)
    assert desired.device_id in ("", device.device_id)
    assert desired.name in ("", device.name)
