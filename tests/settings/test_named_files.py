"""Files that settings name are found, and what is wrong with them is said early."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatewayd.__main__ import run
from gatewayd.config import check, load
from gatewayd.settings.declare import FileUse, setting
from gatewayd.settings.files import ConfigPaths, Problem
from gatewayd.settings.named_files import NamedFile, fault, named_files
from tools.config_sample import ours


@dataclass(frozen=True)
class Inner:
    secret_file: Path | None = setting(None, "a secret", file=FileUse.LATER)
    about: str = setting("", "no file")


@dataclass(frozen=True)
class Outer:
    template_file: Path = setting(Path("/t"), "a template", file=FileUse.START)
    directories: tuple[Path, ...] = setting((), "several", file=FileUse.DIRECTORY)
    products: Mapping[str, Inner] = setting({}, "by name")
    rows: tuple[Inner, ...] = setting((), "by number")
    inner: Inner | None = setting(None, "one")
    other: Path = setting(Path("/state"), "no file that is read")


def test_each_file_is_found_with_its_key() -> None:
    one = Inner(Path("/s"))
    made = Outer(Path("/t"), (Path("/a"), Path("/b")), {"p": one, "q": Inner()}, (one,), one)
    assert list(named_files(made, ("x",))) == [
        NamedFile(("x", "template_file"), Path("/t"), FileUse.START),
        NamedFile(("x", "directories"), Path("/a"), FileUse.DIRECTORY),
        NamedFile(("x", "directories"), Path("/b"), FileUse.DIRECTORY),
        NamedFile(("x", "products", "p", "secret_file"), Path("/s"), FileUse.LATER),
        NamedFile(("x", "rows", 0, "secret_file"), Path("/s"), FileUse.LATER),
        NamedFile(("x", "inner", "secret_file"), Path("/s"), FileUse.LATER),
    ]


@pytest.mark.parametrize("use", FileUse)
def test_a_file_that_can_be_read_has_no_fault(tmp_path: Path, use: FileUse) -> None:
    path = tmp_path / "file"
    if use is FileUse.DIRECTORY:
        path.mkdir()
    else:
        path.touch()
    assert fault(NamedFile(("x",), path, use))[0] == ""


def test_what_is_no_file_is_said_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "is not a regular file" in fault(NamedFile(("x",), pipe, FileUse.LATER))[0]
    assert "is not a regular file" in fault(NamedFile(("x",), tmp_path, FileUse.LATER))[0]
    assert "is not a directory" in fault(NamedFile(("x",), pipe, FileUse.DIRECTORY))[0]


def test_a_file_of_another_user_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)  # root may read anything
    text, needed = fault(NamedFile(("x",), tmp_path / "file", FileUse.START))
    assert "cannot be read by this user" in text
    assert not needed


CLOUDS = """\
[cloud.alibaba]
region = "cn-shanghai"
ca_file = "{0}/root.pem"
[cloud.alibaba.products.a1]
secret_file = "{0}/product"
[cloud.huawei]
host = "iot.example"
ca_file = "{0}/roots.pem"
[cloud.huawei.certificates]
template_file = "{0}/template.json"
"""


def test_the_check_names_each_missing_file_where_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").touch()
    paths = ConfigPaths.of(tmp_path / "gatewayd.toml")
    paths.main.write_text(CLOUDS.format(tmp_path))
    found = {(p.line, p.text.partition(": ")[0], p.fatal) for p in check(paths, ours())}
    assert found == {
        (3, "cloud.alibaba.ca_file", False),
        (5, "cloud.alibaba.products.a1.secret_file", False),
        (10, "cloud.huawei.certificates.template_file", True),
    }


def test_the_command_says_that_there_are_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gatewayd.toml"
    config.write_text(CLOUDS.partition("[cloud.huawei]")[0].format(tmp_path))
    assert run(["--check-config", "--config", str(config)]) == 0
    *warnings, last = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in warnings] == [f"{config}:3", f"{config}:5"]
    assert last == "The configuration is valid, with 2 warnings."
    config.write_text(config.read_text().replace("ca_file", "# ca_file"))
    assert run(["--check-config", "--config", str(config)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "The configuration is valid, with 1 warning."


def test_a_start_warns_of_them_and_who_uses_none_is_not_bothered(tmp_path: Path) -> None:
    paths = ConfigPaths.of(tmp_path / "gatewayd.toml")
    paths.main.write_text(CLOUDS.format(tmp_path))
    warnings: list[Problem] = []
    config = load(paths, ours(), warnings.append)
    assert [warning.line for warning in warnings] == [3, 5, 8, 10]
    assert not any(warning.fatal for warning in warnings)
    assert load(paths, ours()) == config
