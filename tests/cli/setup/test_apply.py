"""Setup changes the machine completely, or not at all."""

from __future__ import annotations

import stat
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gatewayd.cli.setup import apply
from gatewayd.cli.setup.apply import SetupTarget, file_fault, machine_facts, uplinks
from gatewayd.cli.setup.commands import shown
from gatewayd.cli.setup.plan import NAME, SetupPlan, plan
from gatewayd.cli.setup.questions import KEPT, complete
from gatewayd.errors import GatewayError
from gatewayd.settings.daemon_user import HIDDEN
from tests.cli.setup.test_questions import CLOUDS, MACHINE, SECRET, WAYS
from tests.cli.test_vault_init import credentials
from tests.support.killed_process import completes_before_kill

TOP = Path(__file__).parents[3]
SITE = {"interface": "lan0", **CLOUDS["alibaba, a region"], **WAYS["approval"]}
CREDENTIAL = "product.a1Xy9Zk3Q7f"


def todo(**other: str) -> SetupPlan:
    answers, faults = complete({**SITE, **other}, MACHINE)
    assert not faults
    return plan(answers)


@pytest.fixture
def target(tmp_path: Path) -> SetupTarget:
    (tmp_path / "etc/gatewayd").mkdir(parents=True)
    config = tmp_path / "etc/gatewayd/gatewayd.toml"
    config.touch()
    return SetupTarget(config, credentials(tmp_path, "host"), ("true",))


def everything(target: SetupTarget) -> dict[str, bytes]:
    """Return all files below the directory of a test, by their names."""
    top = target.directory.parents[1]
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and "__pycache__" not in str(path)
    }


def test_files_are_for_the_daemon_and_the_secret_for_root(target: SetupTarget) -> None:
    target.write(todo())
    for path in target.paths(todo()):
        private = path == target.systemd.file(CREDENTIAL)
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if private else 0o644)
    assert target.systemd.decrypt(CREDENTIAL) == SECRET.encode()
    assert SECRET.encode() not in b"".join(everything(target).values())
    assert f"LoadCredential={CREDENTIAL}:" in target.drop_in.read_text()


def test_what_was_written_is_read_again(target: SetupTarget) -> None:
    assert target.answers() == {}
    target.write(todo())
    read = target.answers()
    assert read["secret"] == KEPT
    before = everything(target)
    again, faults = complete({}, MACHINE, read)
    assert not faults
    target.write(plan(again))
    assert everything(target) == before


def test_what_is_there_already_is_known(target: SetupTarget) -> None:
    assert not target.has(todo())
    target.write(todo())
    kept, faults = complete({}, MACHINE, target.answers())
    assert not faults
    assert target.has(todo())
    assert target.has(plan(kept))
    assert not target.has(todo(secret="another"))
    assert not target.has(todo(interface="wan0"))
    target.drop_in.unlink()
    assert not target.has(todo())
    target.write(todo())
    target.systemd.file(CREDENTIAL).unlink()
    assert not target.has(plan(kept))


def test_on_another_machine_the_secret_is_given_again(target: SetupTarget, tmp_path: Path) -> None:
    target.write(todo())
    (tmp_path / "host").write_text("another machine")
    assert not target.has(todo())
    target.write(todo())
    assert target.has(todo())


@pytest.mark.parametrize("first", [True, False])
def test_a_configuration_that_is_wrong_as_a_whole_is_put_back(
    target: SetupTarget, first: bool
) -> None:
    if not first:
        target.write(todo())
    other = target.directory / "conf.d/60-site.toml"
    other.parent.mkdir(exist_ok=True)
    other.write_text("[cloud.alibaba]\nport = 99999\n")
    before = everything(target)
    with pytest.raises(GatewayError, match="60-site"):
        target.write(todo(endpoint="cn-hangzhou", secret="another"))
    assert everything(target) == before


def test_a_secret_that_is_not_needed_any_more_is_removed(target: SetupTarget) -> None:
    target.write(todo())
    target.write(todo(product="a1Other", secret="another"))
    assert not target.systemd.exists(CREDENTIAL)
    assert target.systemd.decrypt("product.a1Other") == b"another"
    (target.directory / "template.json").write_text("{}")
    answers, faults = complete(
        {"interface": "lan0", **CLOUDS["huawei, certificates"], **WAYS["approval"],
         "template": str(target.directory / "template.json")}, MACHINE,
    )  # fmt: skip
    assert not faults
    target.write(plan(answers))
    assert not target.drop_in.exists()
    assert not list(target.systemd.directory.iterdir())
    assert target.answers()["cloud"] == "huawei"


def test_a_secret_that_cannot_be_sealed_leaves_everything(target: SetupTarget) -> None:
    before = everything(target)
    broken = replace(target, systemd=replace(target.systemd, program=("false",)))
    with pytest.raises(GatewayError):
        broken.write(todo())
    assert everything(target) == before


@pytest.mark.integration
def test_killed_anywhere_it_is_completed_by_the_next_run(target: SetupTarget) -> None:
    step, done = 0, False
    while not done:
        done = completes_before_kill(step, lambda: target.write(todo()))
        target.write(todo())
        assert target.systemd.decrypt(CREDENTIAL) == SECRET.encode()
        assert target.answers()["product"] == "a1Xy9Zk3Q7f"
        for path in target.paths(todo()):
            path.unlink()
        step += 997
    assert step > 997


def test_files_that_setup_did_not_write_are_named(target: SetupTarget) -> None:
    target.write(todo())
    file = target.directory / f"conf.d/{NAME}.toml"
    for content in (b"[x", b"\xff\xfe", b"x" * (apply.MAX_FILE + 1)):
        file.write_bytes(content)
        with pytest.raises(GatewayError, match=NAME):
            target.answers()


def test_a_service_that_does_not_start_is_reported(target: SetupTarget) -> None:
    failing = (sys.executable, "-c", "import sys; sys.exit('Job for gatewayd.service failed.')")
    with pytest.raises(GatewayError, match="Job for gatewayd"):
        replace(target, systemctl=failing).restart()
    with pytest.raises(GatewayError, match="cannot be run"):
        replace(target, systemctl=("/nowhere/systemctl",)).restart()
    target.restart()


@pytest.mark.parametrize("first", [True, False])
def test_a_service_that_does_not_start_has_its_files_put_back(
    target: SetupTarget, tmp_path: Path, first: bool
) -> None:
    if not first:
        target.write(todo())
    before, calls = everything(target), tmp_path / "calls"
    script = 'echo "$@" >>"$0"; [ "$1" = daemon-reload ] || { echo "Job failed." >&2; exit 1; }'
    failing = replace(target, systemctl=("sh", "-c", script, str(calls)))
    with pytest.raises(GatewayError, match=r"(?s)Job failed.*as they were"):
        failing.put_in_force(todo(endpoint="cn-hangzhou", product="a1Other", secret="another"))
    assert calls.read_text().splitlines().count("restart gatewayd.service") == 2
    calls.unlink()
    assert everything(target) == before
    target.put_in_force(todo(endpoint="cn-hangzhou"))
    assert target.answers()["endpoint"] == "cn-hangzhou"


def test_what_is_shown_has_every_file_and_no_secret(target: SetupTarget) -> None:
    records = list(shown(todo(), target))
    text = "\n".join(one["Text"] for one in records)
    assert [one["File"] for one in records] == [str(path) for path in target.paths(todo())]
    for path in target.paths(todo()):
        assert f"{path}:" in text
    assert SECRET not in text
    assert 'region = "cn-shanghai"' in text


@pytest.mark.root
def test_a_file_that_only_root_can_read_is_refused() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o701)
        file, inside = directory / "ca.pem", directory / "closed/ca.pem"
        inside.parent.mkdir(mode=0o700)
        for path in (file, inside):
            path.touch(mode=0o644)
        fault = partial(file_fault, hidden=())
        assert fault(str(file), "nobody") == ""
        assert str(inside.parent) in fault(str(inside), "nobody")
        (directory / "link").symlink_to(inside)
        assert str(inside.parent) in fault(str(directory / "link"), "nobody")
        assert "below /tmp," in file_fault(str(directory / "link"), "root")
        file.chmod(0o600)
        assert str(file) in fault(str(file), "nobody")
        assert fault(str(file), "root") == ""


def test_what_is_hidden_is_what_the_unit_hides() -> None:
    unit = (TOP / "systemd/gatewayd.service").read_text().splitlines()
    assert {"PrivateTmp=yes", "ProtectHome=yes"} < set(unit)
    assert {"/tmp", "/var/tmp", "/home", "/root", "/run/user"} == set(map(str, HIDDEN))  # noqa: S108  # by systemd.exec(5)


@pytest.mark.parametrize("path", ["ca.pem", "/nowhere/ca.pem", "/etc", "/dev/zero", "/a\0b"])
def test_a_file_that_is_none_is_refused(path: str) -> None:
    assert file_fault(path)


def test_the_uplink_is_known_by_its_default_route(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    routes.write_text(
        "Iface\tDestination\tGateway\n"
        "wan0\t00000000\t0101A8C0\nlan0\t0000A8C0\t00000000\nwan0\t00000000\t0201A8C0\n\n"
    )
    none, zeros = tmp_path / "none", "0" * 32
    assert uplinks(routes, none) == ("wan0",)
    assert uplinks(none, none) == ()
    routes6 = tmp_path / "ipv6_route"
    routes6.write_text(
        f"fe80{'0' * 28} 40 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001     lan0\n"
        f"{zeros} 00 {zeros} 00 fe80{'0' * 28} 00000400 00000001 00000000 00000003     wwan0\n"
        f"{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n"
    )
    assert uplinks(routes, routes6) == ("wan0", "wwan0")
    assert uplinks(none, routes6) == ("wwan0",)
    assert machine_facts().interfaces
