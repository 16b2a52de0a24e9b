"""Another version of the package, its removal, and its purging: nobody's secret is lost."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lan import namespaces
from tests.support.former_gatewayd import COMMIT, NEEDS, unpack
from tests.system import roots
from tests.system.conftest import CHILDREN, booted
from tests.system.gateway import KEY, STATE, Gateway, apt, install
from tests.system.plant import plant

pytestmark = pytest.mark.system

EARLIER = "0.0.9"
FIFTY = 50
BUILDING = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1",
    "DPKG_DEB_COMPRESSOR_TYPE": "none",
}  # fmt: skip
"""The environment in which a package is built that is unpacked at once."""
FROM_THE_FUTURE = f"""\
import sqlite3
with sqlite3.connect("{STATE}/state.db") as db:
    db.execute("PRAGMA user_version = 99")
"""


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
    return _of_earlier_version(package, directory, "# of an earlier version\n")


@pytest.fixture(scope="session")
def former(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the earliest version that is upgraded, built from the history.

    It is built once, beside the packages of now, by the first process that needs it.
    """
    kept = packages / f"former-{COMMIT}"
    with (packages / "former.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            built = _build_former(tmp_path_factory.mktemp("former"))
            unfinished = kept.with_suffix(".new")
            unfinished.mkdir(exist_ok=True)
            shutil.copy(built, unfinished)
            unfinished.rename(kept)
    (found,) = kept.glob("*.deb")
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
def fifty(root: Path, memory: Path, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway without gatewayd, on a LAN with fifty children."""
    options = ("--children", str(FIFTY), "--rate", "0")
    with (
        namespaces() as (gateway, children),
        plant(tmp_path / "plant", children, *options) as running,
        booted([root], (gateway[-1], running), memory) as made,
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


def test_an_upgrade_keeps_everybody_online_and_a_downgrade_is_guarded(
    bare: Gateway, earlier: Path, package: Path
) -> None:
    install(bare.box, earlier)
    bare.configure()
    bare.await_online(CHILDREN)
    pid = bare.shown("MainPID")

    install(bare.box, package)
    assert _version(bare) == f"{bare.property('Version')} installed"
    assert bare.shown("MainPID") not in (pid, "0")
    assert bare.shown("NRestarts") == "0"
    assert "# of an earlier version" not in bare.box.path("/etc/gatewayd/gatewayd.toml").read_text()
    _is_untouched(bare)

    install(bare.box, earlier)
    assert _version(bare) == f"{EARLIER} installed"
    _is_untouched(bare)

    bare.systemctl("stop")
    bare.box.run("python3", "-", input=FROM_THE_FUTURE)
    told = bare.refused("apt-get", "-qqy", "install", f"/opt/{package.name}")
    assert f"a newer version wrote {STATE}" in told
    assert _version(bare) == f"{EARLIER} installed"
    bare.refused("systemctl", "start", "gatewayd")
    assert bare.shown("ExecMainStatus") == "78"


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


def test_removal_keeps_the_vault_and_purging_too_unless_somebody_says_no(
    gateway: Gateway, package: Path
) -> None:
    _is_kept_in_removal(gateway, package)
    _is_kept_in_purging(gateway, package)


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
