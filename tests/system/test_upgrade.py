"""Another version of the package, its removal, and its purging: nobody's secret is lost."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.storage import records
from tests.support.former_gatewayd import COMMIT, NEEDS, unpack
from tests.system import roots
from tests.system.conftest import CHILDREN, UNLIMITED, booted, made_once, on_a_lan
from tests.system.gateway import KEY, STATE, Gateway, apt, install
from tests.system.plant import Plant

pytestmark = pytest.mark.system

EARLIER = "0.0.9"
OF_EARLIER = "# of an earlier version"
FIFTY = 50
BUILDING = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1",
    "DPKG_DEB_COMPRESSOR_TYPE": "none",
}  # fmt: skip
"""The environment in which a package is built that is unpacked at once."""
OF_THE_FUTURE = 99
SET_VERSION = f"""\
import sqlite3, sys
with sqlite3.connect("{STATE}/state.db") as db:
    db.execute("PRAGMA user_version = " + sys.argv[1])
"""
"""Has state.db be of another version."""


def _of_earlier_version(package: Path, directory: Path, sample: str = "") -> Path:
    """Return the package with the version of an earlier one.  sample: added to a conffile."""
    tree = directory / "tree"
    _run("dpkg-deb", "--raw-extract", package, tree)
    control = tree / "DEBIAN/control"
    version = _run("dpkg-deb", "--field", package, "Version").strip()
    control.write_text(control.read_text().replace(f"Version: {version}", f"Version: {EARLIER}"))
    with (tree / "etc/gatewayd/gatewayd.toml").open("a") as file:
        file.write(sample)
    made = directory / f"gatewayd_{EARLIER}_all.deb"
    _run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made)
    return made


@pytest.fixture(scope="session")
def earlier(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, with the version and the files of an earlier one."""
    directory = tmp_path_factory.mktemp("earlier")
    return _of_earlier_version(package, directory, f"{OF_EARLIER}\n")


@pytest.fixture(scope="session")
def former(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the earliest version that is upgraded, built from the history."""

    def build(kept: Path) -> None:
        built = _build_former(tmp_path_factory.mktemp("former"))
        kept.mkdir()
        shutil.copy(built, kept)

    (found,) = made_once(packages / f"former-{COMMIT}", build).glob("*.deb")
    return found


def _build_former(directory: Path) -> Path:
    tree = unpack(directory / "source/gatewayd")
    (tree / "packaging/debian").rename(tree / "debian")
    built = subprocess.run(
        ["dpkg-buildpackage", "--no-sign", "--build=binary", "--ignore-builtin-builddeps"],
        cwd=tree, env=BUILDING, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return _of_earlier_version(next(tree.parent.glob("gatewayd_*.deb")), directory)


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[tuple[str, Plant]]:
    with on_a_lan(tmp_path, *UNLIMITED) as found:
        yield found


@pytest.fixture
def fifty(root: Path, memory: Path, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway without gatewayd, on a LAN with fifty children."""
    with (
        on_a_lan(tmp_path, *UNLIMITED, number=FIFTY) as found,
        booted([root], found, memory) as made,
    ):
        yield made


@pytest.fixture
def undivided(package: Path, tmp_path: Path) -> Path:
    """The package as of a version whose discovery and whose first key had no units of their own."""
    tree = tmp_path / "tree"
    _run("dpkg-deb", "--raw-extract", package, tree)
    control = tree / "DEBIAN/control"
    version = _run("dpkg-deb", "--field", package, "Version").strip()
    control.write_text(control.read_text().replace(f"Version: {version}", f"Version: {EARLIER}"))
    units = ("discovery.socket", "discovery@.service", "link.socket", "link@.service",
             "vault-keygen.service")  # fmt: skip
    for name in (f"gatewayd-{unit}" for unit in units):
        next(tree.rglob(name)).unlink()
    unit = next(tree.rglob("gatewayd.service"))
    new = re.compile(r".*DISCOVERY_SOCKET.*|IPAddressDeny=multicast|.*=gatewayd-vault-keygen.*")
    kept = [line for line in unit.read_text().splitlines() if not new.fullmatch(line)]
    text = re.sub(r"gatewayd-(discovery|link)\.socket ", "", "\n".join(kept))
    unit.write_text(f"{text}\n")
    made = tmp_path / f"gatewayd_{EARLIER}_all.deb"
    _run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made)
    return made


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _version(gateway: Gateway) -> str:
    return gateway.box.run("dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", "gatewayd")


def _is_untouched(gateway: Gateway) -> None:
    gateway.await_online(CHILDREN)
    assert set(gateway.plant.secrets_issued().values()) == {1}


def test_no_other_version_no_removal_and_no_purging_loses_a_secret_unless_an_operator_says_so(
    gateway: Gateway, earlier: Path, package: Path
) -> None:
    """On one gateway, which each step leaves with its children online, but the last."""
    _is_downgraded_and_upgraded(gateway, earlier, package)
    _does_not_go_back_behind_what_it_wrote(gateway, earlier)
    _is_kept_in_removal(gateway, package)
    _is_kept_in_purging(gateway, package)


def _is_downgraded_and_upgraded(gateway: Gateway, earlier: Path, package: Path) -> None:
    settings = gateway.box.path("/etc/gatewayd/gatewayd.toml")
    install(gateway.box, earlier)
    assert _version(gateway) == f"{EARLIER} installed"
    assert OF_EARLIER in settings.read_text()
    _is_untouched(gateway)
    pid = gateway.shown("MainPID")

    install(gateway.box, package)
    assert _version(gateway) == f"{gateway.property('Version')} installed"
    assert gateway.shown("MainPID") not in (pid, "0")
    assert gateway.shown("NRestarts") == "0"
    assert OF_EARLIER not in settings.read_text()
    _is_untouched(gateway)


def _does_not_go_back_behind_what_it_wrote(gateway: Gateway, earlier: Path) -> None:
    """What is installed is older than what is stored, too: it does not start."""
    installed = _version(gateway)
    gateway.systemctl("stop")
    gateway.box.run("python3", "-", str(OF_THE_FUTURE), input=SET_VERSION)
    older = ("apt-get", "-qqy", "--allow-downgrades", "install", f"/opt/{earlier.name}")
    assert f"a newer version wrote {STATE}" in gateway.refused(*older)
    assert _version(gateway) == installed
    gateway.refused("systemctl", "start", "gatewayd")
    assert gateway.shown("ExecMainStatus") == "78"

    gateway.box.run("python3", "-", str(records.VERSION), input=SET_VERSION)
    gateway.systemctl("start")
    _is_untouched(gateway)


def test_the_earliest_package_is_upgraded_with_its_children(
    fifty: Gateway, root: Path, former: Path, package: Path
) -> None:
    install(fifty.box, former, *roots.spares(root, NEEDS))
    fifty.write_key("--with-key=host")
    fifty.configure()
    fifty.await_online(FIFTY)
    before = set(fifty.children())

    install(fifty.box, package)
    assert fifty.shown("NRestarts") == "0"
    fifty.await_online(FIFTY)
    assert set(fifty.children()) == before
    assert set(fifty.plant.secrets_issued().values()) == {1}

    told = fifty.refused("apt-get", "-qqy", "--allow-downgrades", "install", f"/opt/{former.name}")
    assert f"{STATE} was written by a newer version" in told
    fifty.await_online(FIFTY)


def test_a_root_that_is_read_only_suffices_where_var_is_kept(
    gateway: Gateway, tmp_path: Path
) -> None:
    var = tmp_path / "var"
    gateway.systemctl("stop")
    _run("cp", "-a", gateway.box.path("/var"), var)
    gateway.box.power_off()
    gateway.box.boot("--read-only", f"--bind={var}:/var")
    gateway.refused("touch", "/etc/gatewayd/mark")
    _is_untouched(gateway)
    gateway.await_state("running")
    child, *_ = gateway.children()
    gateway.call("Reject", "ss", child, "not ours")
    gateway.await_online(CHILDREN - 1)
    gateway.box.cut_power()
    gateway.box.boot("--read-only", f"--bind={var}:/var")
    gateway.await_online(CHILDREN - 1)
    assert gateway.children()[child] == "rejected"


def _is_kept_in_removal(gateway: Gateway, package: Path) -> None:
    told = apt(gateway.box, "remove", "gatewayd")
    assert f"the records and secrets of the devices are kept in {STATE}" in told
    gateway.refused("busctl", "status", "org.gatewayd1")
    gateway.refused("busctl", "introspect", "org.gatewayd1", "/org/gatewayd1")
    units = ("systemctl", "list-units", "--plain", "--no-legend", "gatewayd*")
    gateway.box.until(lambda: gateway.box.run(*units) == "", "its units to have ended")
    assert gateway.box.path(f"{STATE}/vault.db").exists()
    assert gateway.box.path("/etc/gatewayd/gatewayd.toml").exists()

    install(gateway.box, package)
    _is_untouched(gateway)


def _is_kept_in_purging(gateway: Gateway, package: Path) -> None:
    told = apt(gateway.box, "purge", "gatewayd")
    assert f"the vault in {STATE} is kept" in told
    assert KEY in told
    assert gateway.box.path(f"{STATE}/vault.db").exists()
    assert not gateway.box.path("/etc/gatewayd/gatewayd.toml").exists()
    assert gateway.box.path("/etc/gatewayd/conf.d/50-site.toml").exists()

    install(gateway.box, package)
    _is_untouched(gateway)

    gateway.box.run("debconf-set-selections", input="gatewayd gatewayd/remove-vault boolean true\n")
    apt(gateway.box, "purge", "gatewayd")
    assert not gateway.box.path(STATE).exists()
    assert not gateway.box.path(KEY).exists()


def test_new_units_come_by_an_upgrade_and_the_key_made_by_hand_stays(
    bare: Gateway, undivided: Path, package: Path
) -> None:
    install(bare.box, undivided)
    bare.await_state("sealed")
    bare.write_key("--with-key=host")
    key = bare.key()
    bare.configure()
    bare.await_online(CHILDREN)
    running = ("systemctl", "list-units", "--no-legend", "--state=running", "gatewayd-discovery@*")
    assert bare.box.run(*running) == ""
    install(bare.box, package)
    _is_untouched(bare)
    assert bare.key() == key
    bare.box.until(lambda: bare.box.run(*running) != "", "the helper to run")
    apt(bare.box, "remove", "gatewayd")
    bare.box.until(lambda: bare.box.run(*running) == "", "the helper to end")
    listening = ("systemctl", "list-units", "--no-legend", "gatewayd-discovery.socket")
    assert "listening" not in bare.box.run(*listening)
