"""What is wrong with templates, each mistake by itself and all at once."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.huawei.template import MAX_BYTES, lint
from gatewayd.cloud.huawei.template import DiagnosticKind as Kind
from tests.cloud.huawei import vectors

CN = "iotda::certificate::common_name"
OU = "iotda::certificate::organizational_unit"
GOOD: dict[str, Any] = vectors.SELF_REGISTRATION["templates"]["T1_static_product"]
Change = Callable[[Any], object]


def found(raw: object) -> list[tuple[Kind, str]]:
    return [(one.kind, one.place) for one in lint(json.dumps(raw).encode()).diagnostics]


def changed(change: Change) -> Any:
    raw = copy.deepcopy(GOOD)
    change(raw)
    return raw


def device(key: str, value: object) -> Change:
    return lambda raw: raw["resources"]["device"].update({key: value})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("T1_static_product", []),
        ("T2_all_refs", []),
        ("T3_cn_is_node", []),
        ("T4_undeclared_ref", [
            (Kind.UNDECLARED, "resources.device.node_id"),
            (Kind.UNREFERENCED, f"parameters.{CN}"),
        ]),
        ("T5_unknown_param", [
            (Kind.UNKNOWN_PARAMETER, "parameters.iotda::certificate::email"),
        ]),
        ("T6_declared_unused", [
            (Kind.UNREFERENCED, "parameters.iotda::certificate::distinguished_name_qualifier"),
        ]),
        ("T7_static_node", [
            (Kind.STATIC, "resources.device.node_id"),
            (Kind.UNREFERENCED, f"parameters.{CN}"),
        ]),
    ],
)  # fmt: skip
def test_the_templates_of_the_vectors(name: str, expected: list[tuple[Kind, str]]) -> None:
    linted = lint(vectors.template(name))
    assert [(one.kind, one.place) for one in linted.diagnostics] == expected
    assert (linted.template is None) == any(one.fatal for one in linted.diagnostics)


D, P = "resources.device", "resources.policy.policy_ids"


@pytest.mark.parametrize(
    ("change", "kind", "place"),
    [
        (lambda raw: raw.update(extra=1), Kind.UNKNOWN_KEY, "extra"),
        (lambda raw: raw["resources"].update(extra=1), Kind.UNKNOWN_KEY, "resources.extra"),
        (device("extra", 1), Kind.UNKNOWN_KEY, f"{D}.extra"),
        (lambda raw: raw["resources"]["policy"].update(ids=[]), Kind.UNKNOWN_KEY,
         "resources.policy.ids"),
        (lambda raw: raw["parameters"][CN].update(default=""), Kind.UNKNOWN_KEY,
         f"parameters.{CN}.default"),
        (lambda raw: raw["parameters"][CN].pop("type"), Kind.MISSING, f"parameters.{CN}.type"),
        (lambda raw: raw["parameters"][CN].update(type="Int"), Kind.WRONG_TYPE,
         f"parameters.{CN}.type"),
        (lambda raw: raw["parameters"][CN].update(type=["String"]), Kind.WRONG_TYPE,
         f"parameters.{CN}.type"),
        (lambda raw: raw["parameters"][CN].update(type="string"), Kind.UNWISE,
         f"parameters.{CN}.type"),
        (lambda raw: raw["parameters"].update({CN: "String"}), Kind.WRONG_TYPE,
         f"parameters.{CN}"),
        (lambda raw: raw["resources"]["device"].pop("node_id"), Kind.MISSING, f"{D}.node_id"),
        (lambda raw: raw["resources"]["device"].pop("product_id"), Kind.MISSING,
         f"{D}.product_id"),
        (device("device_id", "fixed"), Kind.STATIC, f"{D}.device_id"),
        (device("device_name", "fixed"), Kind.STATIC, f"{D}.device_name"),
        (device("device_id", None), Kind.WRONG_TYPE, f"{D}.device_id"),
        (device("device_id", {}), Kind.WRONG_TYPE, f"{D}.device_id"),
        (device("device_id", {"ref": 1}), Kind.WRONG_TYPE, f"{D}.device_id"),
        (device("device_id", {"ref": CN, "x": 1}), Kind.WRONG_TYPE, f"{D}.device_id"),
        (device("device_id", {"Ref": CN}), Kind.WRONG_SPELLING, f"{D}.device_id"),
        (device("device_id", {"Fn::Sub": [CN]}), Kind.FUNCTION, f"{D}.device_id"),
        (device("device_id", {"ref": "iotda::certificate::country"}), Kind.UNDECLARED,
         f"{D}.device_id"),
        (device("device_id", {"ref": "iotda::certificate::email"}), Kind.UNKNOWN_PARAMETER,
         f"{D}.device_id"),
        (device("product_id", "a.b"), Kind.ILLEGAL, f"{D}.product_id"),
        (device("product_id", "a" * 37), Kind.ILLEGAL, f"{D}.product_id"),
        (device("product_id", 5), Kind.WRONG_TYPE, f"{D}.product_id"),
        (device("tags", {}), Kind.WRONG_TYPE, f"{D}.tags"),
        (lambda raw: raw["resources"]["device"]["tags"].append(1), Kind.WRONG_TYPE,
         f"{D}.tags[1]"),
        (lambda raw: raw["resources"]["device"]["tags"].append({"tag_key": "a"}), Kind.MISSING,
         f"{D}.tags[1].tag_value"),
        (lambda raw: raw["resources"]["device"]["tags"].append(
            {"tag_key": "a b", "tag_value": ""}), Kind.ILLEGAL, f"{D}.tags[1].tag_key"),
        (lambda raw: raw["resources"]["device"]["tags"].append(
            {"tag_key": "site", "tag_value": "b"}), Kind.ILLEGAL, f"{D}.tags"),
        (lambda raw: raw["resources"]["device"]["tags"].extend(
            {"tag_key": f"k{n}", "tag_value": "v"} for n in range(10)), Kind.TOO_MANY,
         f"{D}.tags"),
        (lambda raw: raw["resources"].update(policy=[]), Kind.WRONG_TYPE, "resources.policy"),
        (lambda raw: raw["resources"].update(policy={"policy_ids": "a"}), Kind.WRONG_TYPE, P),
        (lambda raw: raw["resources"].update(policy={"policy_ids": [1]}), Kind.WRONG_TYPE,
         f"{P}[0]"),
        (lambda raw: raw["resources"].update(policy={"policy_ids": ["a"]}), Kind.UNWISE,
         f"{P}[0]"),
        (lambda raw: raw["resources"].update(policy={"policy_ids": ["a0" * 12] * 6}), Kind.UNWISE,
         P),
        (lambda raw: raw.pop("parameters"), Kind.MISSING, "parameters"),
        (lambda raw: raw.pop("resources"), Kind.MISSING, "resources"),
        (lambda raw: raw["resources"].pop("device"), Kind.MISSING, "resources.device"),
        (lambda raw: raw.update(parameters=[]), Kind.WRONG_TYPE, "parameters"),
        (lambda raw: raw["resources"].update(device=None), Kind.WRONG_TYPE, "resources.device"),
    ],
)  # fmt: skip
def test_one_mistake(change: Change, kind: Kind, place: str) -> None:
    assert (kind, place) in found(changed(change))


@pytest.mark.parametrize("policy", [{}, {"policy_ids": []}])
def test_policies_may_be_absent(policy: object) -> None:
    assert found(changed(lambda raw: raw["resources"].update(policy=policy))) == []
    assert found(changed(lambda raw: raw["resources"].pop("policy"))) == []


def test_ten_tags_are_allowed() -> None:
    ten = [{"tag_key": {"ref": OU}, "tag_value": "v"}]
    ten += [{"tag_key": f"k{n}", "tag_value": "v"} for n in range(9)]
    assert found(changed(device("tags", ten))) == []


def test_a_misspelled_reference_is_not_reported_twice() -> None:
    (one,) = found(changed(device("node_id", {"Ref": "iotda::certificate::serial_number"})))
    assert one == (Kind.WRONG_SPELLING, "resources.device.node_id")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"template_name": "a", "template_body": GOOD}, []),
        ({"template_name": "a", "description": "", "template_body": GOOD},
         [(Kind.ILLEGAL, "description")]),
        ({"template_name": "a" * 129, "description": "d" * 2049, "template_body": GOOD},
         [(Kind.ILLEGAL, "template_name"), (Kind.ILLEGAL, "description")]),
        ({"template_name": "模板", "description": "a b", "template_body": GOOD},
         [(Kind.ILLEGAL, "template_name"), (Kind.ILLEGAL, "description")]),
        ({"template_name": 1, "template_body": "{}"},
         [(Kind.WRONG_TYPE, "template_name"), (Kind.WRONG_TYPE, "template_body")]),
        ({"template_body": GOOD, "id": 1},
         [(Kind.MISSING, "template_name"), (Kind.UNKNOWN_KEY, "id")]),
        ({"template_name": "a"}, [(Kind.MISSING, "template_body")]),
        ({"template_name": "a", "template_body": {}},
         [(Kind.MISSING, "parameters"), (Kind.MISSING, "resources")]),
    ],
)  # fmt: skip
def test_the_whole_request(request_: object, expected: list[tuple[Kind, str]]) -> None:
    assert found(request_) == expected


def test_name_and_description_are_kept() -> None:
    raw = {"template_name": "a", "description": "网关", "template_body": GOOD}
    template = lint(json.dumps(raw).encode()).template
    assert template is not None
    assert (template.name, template.description) == ("a", "网关")


def test_every_fault_is_reported_at_once() -> None:
    raw = changed(device("node_id", "fixed"))
    raw["parameters"]["iotda::certificate::email"] = {"type": "Int"}
    device("device_id", {"Ref": CN})(raw)
    raw["extra"] = 1
    assert {kind for kind, _ in found(raw)} == {
        Kind.STATIC,
        Kind.UNKNOWN_PARAMETER,
        Kind.WRONG_TYPE,
        Kind.WRONG_SPELLING,
        Kind.UNKNOWN_KEY,
        Kind.UNREFERENCED,
    }


def test_the_remedy_of_an_unknown_parameter_names_the_known_ones() -> None:
    diagnostic = lint(vectors.template("T5_unknown_param")).diagnostics[0]
    assert all(
        name in diagnostic.remedy for name in vectors.SELF_REGISTRATION["rules"]["attribute_oids"]
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is not JSON: line 1, column 1: Expecting value"),
        (b'{\n "a": }', "is not JSON: line 2, column 7: Expecting value"),
        (b'{\n\n"a": "\xff"}', "is not JSON: line 3: not UTF-8"),
        (b"[NaN]", "is not JSON: it has no NaN"),
        (b"[" * 60000, "is not JSON: too deeply nested"),
        (b" " * (MAX_BYTES + 1), "must have at most 65536 bytes"),
        (b"[]", "must be an object"),
        (b"null", "must be an object"),
    ],
)
def test_what_is_no_json(data: bytes, what: str) -> None:
    (diagnostic,) = lint(data).diagnostics
    assert (diagnostic.place, diagnostic.what, diagnostic.fatal) == ("", what, True)


def test_keys_that_come_twice() -> None:
    text = json.dumps({"template_name": "a", "template_body": GOOD})
    text = text.replace('"node_id":', '"node_id": 1, "node_id":').replace(
        '"tag_key":', '"tag_key": "x", "tag_key":'
    )
    linted = lint(text.encode())
    assert linted.template is None
    assert {(one.place, one.what) for one in linted.diagnostics} == {
        ("resources.device", "has the key 'node_id' more than once"),
        ("resources.device.tags[0]", "has the key 'tag_key' more than once"),
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["ref", "Ref", "parameters", "resources", "device", "policy", "tags", "x",
                         "node_id", "product_id", "tag_key", "template_body", CN, "type"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_anything_is_either_a_template_or_explained(raw: object) -> None:
    linted = lint(json.dumps(raw).encode())
    assert (linted.template is None) == any(one.fatal for one in linted.diagnostics)


@given(st.sampled_from(["parameters", "resources.device", "resources.device.tags.0",
                        "resources.policy", f"parameters.{CN}"]), JSON)  # fmt: skip
def test_a_part_may_be_anything(path: str, part: object) -> None:
    def put(raw: Any) -> None:
        *above, last = path.split(".")
        for key in above:
            raw = raw[int(key) if isinstance(raw, list) else key]
        raw[int(last) if isinstance(raw, list) else last] = part

    linted = lint(json.dumps(changed(put)).encode())
    assert (linted.template is None) == any(one.fatal for one in linted.diagnostics)
    assert all(str(one).isprintable() for one in linted.diagnostics)
