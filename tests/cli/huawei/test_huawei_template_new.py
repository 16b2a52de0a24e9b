"""`gatewayctl huawei template new`: by options, and at a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from gatewayd.cli.huawei.template import COMMANDS, template_new
from gatewayd.cli.main import WrongUsage, build_parser, main
from gatewayd.cloud.huawei.template import lint
from gatewayd.errors import GatewayError

CN = "iotda::certificate::common_name"
SN = "iotda::certificate::serial_number"
PRODUCT = "642bf260f2f9030e44210d8d"
NEEDED = ("--product", PRODUCT, "--node-id", "serial_number")


def parsed(*words: str) -> Namespace:
    return build_parser(COMMANDS).parse_args(["huawei", "template", "new", *words])


def made(*words: str, terminal: TextIO | None = None) -> tuple[int, str, str]:
    """Run the command; return its status, its output and its notes."""
    out, notes = io.StringIO(), io.StringIO()
    status = template_new(parsed(*words), terminal or io.StringIO(), out, notes)
    return status, out.getvalue(), notes.getvalue()


def body_of(*words: str) -> Any:
    status, text, said = made(*words)
    assert (status, said) == (0, "")
    return json.loads(text)


def test_the_least() -> None:
    assert body_of(*NEEDED) == {
        "parameters": {SN: {"type": "String"}},
        "resources": {"device": {"node_id": {"ref": SN}, "product_id": PRODUCT}},
    }


def test_all() -> None:
    made_ = body_of(
        "--product", "@organization", "--node-id", SN, "--device-name", "@common_name",
        "--device-id", "distinguished_name_qualifier", "--tag", "site=plant-7",
        "--tag", "unit=@organizational_unit", "--tag", "@country=x",
        "--policy", "5c90fa7d3c4e4405e8525079", "--name", "edge-gw", "--description", "for_all",
    )  # fmt: skip
    prefix = "iotda::certificate::"
    assert made_ == {
        "template_name": "edge-gw",
        "description": "for_all",
        "template_body": {
            "parameters": {
                prefix + word: {"type": "String"}
                for word in ("country", "organization", "organizational_unit",
                             "distinguished_name_qualifier", "common_name", "serial_number")
            },
            "resources": {
                "device": {
                    "device_name": {"ref": CN},
                    "device_id": {"ref": f"{prefix}distinguished_name_qualifier"},
                    "node_id": {"ref": SN},
                    "product_id": {"ref": f"{prefix}organization"},
                    "tags": [
                        {"tag_key": "site", "tag_value": "plant-7"},
                        {"tag_key": "unit",
                         "tag_value": {"ref": f"{prefix}organizational_unit"}},
                        {"tag_key": {"ref": f"{prefix}country"}, "tag_value": "x"},
                    ],
                },
                "policy": {"policy_ids": ["5c90fa7d3c4e4405e8525079"]},
            },
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("--product", "a.b"),
        ("--product", "@email"),
        ("--node-id", "email"),
        ("--device-name", ""),
        ("--tag", "site"),
        ("--tag", "=plant"),
        ("--tag", "a b=plant"),
        ("--tag", "site=@email"),
    ],
)
def test_wrong_usage(words: tuple[str, ...]) -> None:
    with pytest.raises(WrongUsage) as ended:
        parsed(*words)
    assert ended.value.code == 2
    assert ended.value.message.startswith(f"argument {words[0]}: ")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--name", "a b"), "error: template_name is 'a b', and must be 1 to 128"),
        (("--description", "alone"), "error: template_name is '', and must be 1 to 128"),
        (("--tag", "a=1", "--tag", "a=2"), "error: resources.device.tags has 2 tags with the key"),
        (tuple(f"--tag=k{n}=v" for n in range(11)), "error: resources.device.tags has 11 tags"),
    ],
)
def test_what_would_not_be_valid_is_not_written(words: tuple[str, ...], error: str) -> None:
    status, text, said = made(*NEEDED, *words)
    assert (status, text) == (1, "")
    assert said.startswith(error)


def test_a_warning_does_not_keep_it_from_being_written() -> None:
    status, text, said = made(*NEEDED, "--policy", "p1")
    assert status == 0
    assert said.startswith("warning: resources.policy.policy_ids[0] is 'p1'")
    assert lint(text.encode()).template is not None


def test_a_new_file_is_written_and_an_old_one_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    assert made(*NEEDED, "--output", str(path)) == (0, "", "")
    text = path.read_text()
    assert lint(text.encode()).template is not None
    with pytest.raises(GatewayError, match=r"t\.json cannot be written: File exists"):
        made(*NEEDED, "--output", str(path), "--policy", "p1")
    assert path.read_text() == text


def test_without_a_terminal_nothing_is_asked() -> None:
    assert made("--product", PRODUCT) == (2, "", "gatewayctl: --node-id must be given\n")


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    """A terminal: the side that types, and the side that the command reads."""
    typist, user = pty.openpty()
    with os.fdopen(user, encoding="utf-8") as opened:
        yield typist, opened
    os.close(typist)


def test_questions(terminal: tuple[int, TextIO]) -> None:
    typist, user = terminal
    answers = (
        "a.b", PRODUCT, "", "serial_number", "mail", "common_name", "site=plant-7", "site",
        "unit=@organization", "", "", "edge-gw",
    )  # fmt: skip
    os.write(typist, "".join(f"{one}\n" for one in answers).encode())
    status, text, said = made(terminal=user)
    assert status == 0
    assert said.count("Product ID, or @ and the attribute that holds it: ") == 2
    assert "'a.b' must be 1 to 36 characters: letters, digits, _ and -\n" in said
    assert "'mail' is none of country, " in said
    assert json.loads(text) == body_of(
        *NEEDED, "--device-name", "common_name", "--tag", "site=plant-7",
        "--tag", "unit=@organization", "--name", "edge-gw",
    )  # fmt: skip


def test_what_is_given_is_not_asked_for(terminal: tuple[int, TextIO]) -> None:
    typist, user = terminal
    os.write(typist, f"{PRODUCT}\n\n\n\n".encode())
    words = ("--node-id", "common_name", "--tag", "site=plant-7")
    status, text, said = made(*words, terminal=user)
    assert status == 0
    assert "node ID (" not in said
    assert json.loads(text) == body_of("--product", PRODUCT, *words)


def test_no_more_tags_are_asked_for_than_there_may_be(terminal: tuple[int, TextIO]) -> None:
    typist, user = terminal
    tags = "".join(f"k{n}=v\n" for n in range(10))
    os.write(typist, f"{PRODUCT}\n\n{tags}\n\n".encode())
    status, text, _ = made("--node-id", "common_name", terminal=user)
    assert status == 0
    assert len(json.loads(text)["resources"]["device"]["tags"]) == 10


def test_questions_that_are_not_answered(terminal: tuple[int, TextIO]) -> None:
    typist, user = terminal
    os.write(typist, f"{PRODUCT}\n\x04".encode())  # the end of input
    with pytest.raises(GatewayError, match="Nothing is written"):
        made(terminal=user)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["huawei", "template", "new", *NEEDED]) == 0
    assert lint(capsys.readouterr().out.encode()).template is not None
