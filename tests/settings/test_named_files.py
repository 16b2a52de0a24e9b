"""Files that settings name are found, and what is wrong with them is said early."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gatewayd.__main__ import run
from gatewayd.cli.main import main as gatewayctl
from gatewayd.config import check, examine, load
from gatewayd.errors import ConfigError
from gatewayd.settings.daemon_user import acting_as_daemon
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


def test_a_start_says_what_the_check_says(tmp_path: Path) -> None:
    paths = ConfigPaths.of(tmp_path / "gatewayd.toml")
    paths.main.write_text(CLOUDS.format(tmp_path))
    warnings: list[Problem] = []
    examined = examine(paths, ours(), as_daemon=True)
    with pytest.raises(ConfigError, match="template_file"):
        examined.accepted(warnings.append)
    assert [warning.line for warning in warnings] == [3, 5, 8]
    (tmp_path / "template.json").touch()
    accepted = examine(paths, ours(), as_daemon=True).accepted(warnings.append)
    assert load(paths, ours()) == accepted.config


@pytest.fixture
def readable(tmp_path: Path) -> Iterator[Path]:
    """A directory that every user can read; pytest's own are for one user."""
    with TemporaryDirectory(dir="/var/lib") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_root_checks_as_the_user_of_the_daemon(readable: Path, mode: int) -> None:
    (readable / "root.pem").write_text("x")
    (readable / "root.pem").chmod(mode)
    paths = ConfigPaths.of(readable / "gatewayd.toml")
    text = CLOUDS.partition("[cloud.alibaba.products.a1]")[0]
    paths.main.write_text(text.format(readable))
    before = os.getgroups(), os.getegid(), os.geteuid()
    with acting_as_daemon("nobody") as as_daemon:
        assert as_daemon
        found = check(paths, ours(), as_daemon=as_daemon)
    assert (os.getgroups(), os.getegid(), os.geteuid()) == before
    assert [p.line for p in found] == ([3] if mode == 0o600 else [])
    assert all("cannot be read by gatewayd" in p.text for p in found)


@pytest.mark.root
def test_what_the_unit_hides_is_said(tmp_path: Path) -> None:
    template = tmp_path / "template.json"  # below /tmp, which the unit has for itself
    template.write_text("{}")
    with acting_as_daemon("nobody") as as_daemon:
        text, needed = fault(NamedFile(("x",), template, FileUse.START), as_daemon=as_daemon)
    assert "is hidden from the service" in text
    assert needed


def test_without_such_a_user_the_user_stays() -> None:
    before = os.geteuid()
    with acting_as_daemon("no-such-user-here") as as_daemon:
        assert not as_daemon
        assert os.geteuid() == before


UNKNOWN_CLOUD = """[[rule]]
name = "meters"
match = {{ service = "_meter._tcp" }}
extract = {{ serial = "txt.serial" }}
device_name = "{{serial}}"
action = "ask"
provider = "{provider}"
product = "{product}"
"""


@pytest.mark.parametrize(("provider", "product", "key"), [
    ("huawei", "a1", "provider"), ("alibaba", "a2", "product"), ("alibaba", "a1", ""),
])  # fmt: skip
def test_every_check_refuses_rules_for_what_is_not_configured(
    tmp_path: Path, provider: str, product: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ConfigPaths.of(tmp_path / "gatewayd.toml")
    paths.main.write_text(
        '[cloud.alibaba]\nregion = "cn-shanghai"\n[cloud.alibaba.products.a1]\n'
        f'secret_file = "{tmp_path}/product"\n'
    )
    (tmp_path / "product").write_text("x")
    (tmp_path / "rules.d").mkdir()
    rules = tmp_path / "rules.d" / "10.toml"
    rules.write_text(UNKNOWN_CLOUD.format(provider=provider, product=product))
    examined = examine(paths, ours(), as_daemon=True)
    assert examined.problems.fatal == bool(key)
    status = gatewayctl(["rules", "check", "--config", str(paths.main)], {})
    assert status == int(bool(key))
    assert gatewayctl(["rules", "check", str(rules), "--config", str(paths.main)], {}) == status
    daemon = run(["--check-config", "--config", str(paths.main)])
    assert (daemon != 0) == bool(key)
    lines = [line for line in capsys.readouterr().out.splitlines() if "configured" in line]
    assert len(lines) == (3 if key else 0)
