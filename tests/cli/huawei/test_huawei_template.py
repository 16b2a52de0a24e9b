"""`gatewayctl huawei template`: lint and preview, by the vectors, and the parser's groups."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from gatewayd.cli.huawei.template import template_lint, template_preview
from gatewayd.cli.main import commands_for, main
from gatewayd.cloud.huawei.template import MAX_BYTES
from gatewayd.errors import GatewayError
from tests.cloud.huawei import vectors
from tests.support.gatewayctl import validate

(PREVIEW,) = (one for one in commands_for(()) if one.words == "huawei template preview")


def written(directory: Path, name: str, data: bytes) -> Path:
    path = directory / name
    path.write_bytes(data)
    return path


def linted(path: Path) -> tuple[int, str]:
    out = io.StringIO()
    return template_lint(path, out), out.getvalue()


def files(directory: Path, template: str, certificate: str) -> tuple[Path, Path]:
    return (
        written(directory, "t.json", vectors.template(template)),
        written(directory, "c.pem", vectors.certificate(certificate)),
    )


def previewed(directory: Path, template: str, certificate: str) -> tuple[int, str]:
    out = io.StringIO()
    status = template_preview(*files(directory, template, certificate), out)
    return status, out.getvalue().replace(f"{directory}/", "")


def test_a_good_template_passes(tmp_path: Path) -> None:
    path = written(tmp_path, "t.json", vectors.template("T1_static_product"))
    assert linted(path) == (0, f"{path} can be used.\n")


def test_warnings_are_no_failure(tmp_path: Path) -> None:
    path = written(tmp_path, "t.json", vectors.template("T6_declared_unused"))
    status, printed = linted(path)
    warning, last = printed.splitlines()
    assert (status, last) == (0, f"{path} can be used.")
    assert warning.startswith(f"{path}: warning: parameters.iotda::certificate::distinguished")


def test_a_bad_template_fails(tmp_path: Path) -> None:
    path = written(tmp_path, "t.json", vectors.template("T5_unknown_param"))
    status, printed = linted(path)
    assert status == 1
    assert printed.startswith(f"{path}: error: parameters.iotda::certificate::email ")
    assert "iotda::certificate::country, " in printed
    assert "can be used" not in printed


def test_a_template_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    path = written(tmp_path, "t.json", b'{"\\u001b[2J": 1, "resources": {"\x7f\\n": 1}}')
    status, printed = linted(path)
    assert status == 1
    assert all(line.isprintable() for line in printed.splitlines())


def test_a_file_is_read_no_further_than_it_may_be_long(tmp_path: Path) -> None:
    path = written(tmp_path, "t.json", b" " * (MAX_BYTES + 2))
    assert linted(path) == (1, f"{path}: error: must have at most {MAX_BYTES} bytes\n")


@pytest.mark.parametrize("name", ["nowhere.json", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(GatewayError, match="cannot be read: "):
        linted(tmp_path / name)


def test_a_device_is_shown(tmp_path: Path) -> None:
    status, printed = previewed(tmp_path, "T1_static_product", "D1_full")
    assert status == 0
    assert printed == (
        "  device_id: 642bf260f2f9030e44210d8d_SN20260001\n"
        "    node_id: SN20260001\n"
        " product_id: 642bf260f2f9030e44210d8d\n"
        "device_name: gateway-0001\n"
        "       tags: site=plant-7\n"
        " policy_ids: 5c90fa7d3c4e4405e8525079\n"
    )


@pytest.mark.parametrize(
    "case",
    vectors.SELF_REGISTRATION["cases"],
    ids=lambda case: f"{case['template']}-{case['certificate']}",
)
def test_cases_as_json(
    tmp_path: Path, case: dict[str, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    template, certificate = files(tmp_path, str(case["template"]), str(case["certificate"]))
    words = ["huawei", "template", "preview", "--template", str(template)]
    status = main([*words, "--cert", str(certificate), "--json"])
    printed = capsys.readouterr().out
    validate(printed, PREVIEW.fields, status)
    found, *errors = map(json.loads, printed.splitlines())
    assert len(errors) == status
    wanted = case["expect"].get("ok")
    assert status == (wanted is None)
    assert found["device"] == (wanted and {"device_name": "", **wanted})  # type: ignore[dict-item]  # JSON
    assert any(one["fatal"] for one in found["diagnostics"]) == (wanted is None)


def test_no_device_is_explained(tmp_path: Path) -> None:
    status, printed = previewed(tmp_path, "T3_cn_is_node", "D7_space_in_cn")
    assert status == 1
    assert printed.startswith("c.pem: error: resources.device.node_id would be 'gateway 0007'")
    assert printed.endswith("\nNo device would be registered.\n")


def test_a_bad_template_is_named(tmp_path: Path) -> None:
    status, printed = previewed(tmp_path, "T4_undeclared_ref", "D1_full")
    assert status == 1
    assert printed.startswith("t.json: error: resources.device.node_id refers to ")


def test_what_is_no_certificate_is_named(tmp_path: Path) -> None:
    template = written(tmp_path, "t.json", vectors.template("T3_cn_is_node"))
    with pytest.raises(GatewayError, match=r"t\.json cannot be used: .*BEGIN CERTIFICATE"):
        template_preview(template, template, io.StringIO())


def test_groups_of_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "t.json", vectors.template("T1_static_product"))
    assert main(["huawei", "template", "lint", str(path)]) == 0
    assert capsys.readouterr().out == f"{path} can be used.\n"
    cert = written(tmp_path, "c.pem", vectors.certificate("D2_cn_only"))
    words = ["huawei", "template", "preview", "--template", str(path), "--cert", str(cert)]
    assert main([*words, "--json"]) == 1
    found, error = map(json.loads, capsys.readouterr().out.splitlines())
    assert found["device"] is None
    assert error["Error"] == "CommandFailed"


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (["huawei"], "usage: gatewayctl huawei "),
        (["huawei", "template"], "usage: gatewayctl huawei template "),
        (["rules", "template"], "usage: gatewayctl rules "),
    ],
)
def test_a_group_alone_is_wrong_usage(
    words: list[str], usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(usage)


def test_a_certificate_that_cannot_be_used_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "t.json", vectors.template("T1_static_product"))
    words = ["huawei", "template", "preview", "--template", str(path), "--cert", str(path)]
    assert main(words) == 1
    assert capsys.readouterr().err.startswith(f"gatewayctl: {path} cannot be used: ")
