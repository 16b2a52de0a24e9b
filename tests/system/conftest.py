"""Booted gateways of each Debian release, on a LAN with children and a simulated cloud.

The layers of a gateway: the root file system of the release; what installing the package has
changed; what the test does.  The first is kept between runs, the second beside the packages.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.lan import namespaces
from tests.support import former_gatewayd
from tests.support.lacking import give_up
from tests.system import roots
from tests.system.box import Box, CannotBoot, obstacle
from tests.system.gateway import Gateway, install
from tests.system.plant import Plant, plant

TOP = Path(__file__).parents[2]
CHILDREN = 3
EXPORTER = "prometheus-node-exporter"
"""What serves metrics; its service is not installed, as it would be in all that is booted."""
FIREWALL = "nftables"
NOT_BOOTED = "no gateway is booted"


@pytest.fixture(scope="session")
def packages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the packages; they are built now, unless they were built before."""
    if given := request.config.getoption("--packages"):
        return Path(given)
    directory = tmp_path_factory.mktemp("packages")
    built = subprocess.run(
        [TOP / "script/deb", directory], check=False, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return directory


@pytest.fixture(scope="session")
def package(packages: Path) -> Path:
    """The package of the daemon."""
    (found,) = packages.glob("gatewayd_*.deb")
    return found


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in memory: what is written there may be a layer, whatever the disk is."""
    if why := obstacle():
        give_up(f"{NOT_BOOTED}: {why}")
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(in_memory(tmp_path_factory.mktemp("memory")))
        except subprocess.CalledProcessError:
            give_up(f"{NOT_BOOTED}: file systems cannot be mounted")
        yield directory


@contextlib.contextmanager
def in_memory(directory: Path) -> Iterator[Path]:
    """Have a directory be in memory until the block ends.  Raises CalledProcessError."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture(scope="session", params=list(roots.RELEASES))
def release(request: pytest.FixtureRequest) -> str:
    """A Debian release, by its name."""
    return str(request.param)


def gateway_packages(packages: Path) -> set[str]:
    """Return the names of Debian's packages that all of ours need."""
    wanted = {name for one in packages.glob("*.deb") for name in roots.dependencies(one)}
    return wanted - {"gatewayd"}


def gateway_root(release: str, packages: Path) -> Path:
    """Return the root file system of a release with what all our packages need.

    What an earlier one needs besides is not installed, so that ours are not tried with it.
    FIREWALL only lists what the kernel has: gatewayd does without it.
    """
    spare = (*former_gatewayd.NEEDS, EXPORTER)
    return roots.root(release, {*gateway_packages(packages), FIREWALL}, spare=spare)


@pytest.fixture(scope="session")
def root(release: str, packages: Path, memory: Path) -> Path:
    """The root file system of a release, without our packages; it can be booted."""
    found = gateway_root(release, packages)

    def try_it(kept: Path) -> None:
        box = Box([found], memory / f"{release}-trial")
        try:
            box.boot()
        except CannotBoot as error:
            give_up(f"{NOT_BOOTED}: {error}")
        box.power_off()
        kept.mkdir()

    made_once(packages / f"booted-{found.name}", try_it)
    return found


@pytest.fixture(scope="session")
def installed(root: Path, packages: Path, package: Path, memory: Path) -> Path:
    """The layer that installing the package leaves behind."""

    def install_it(kept: Path) -> None:
        box = Box([root], memory / "installed")
        box.boot()
        try:
            install(box, package)
        finally:
            box.power_off()
        subprocess.run(["cp", "--archive", box.changes / "upper", kept], check=True)
        shutil.rmtree(box.changes)

    digest = hashlib.sha256(package.read_bytes()).hexdigest()[:12]
    return made_once(packages / f"installed-{root.name}-{digest}", install_it)


def made_once(kept: Path, make: Callable[[Path], None]) -> Path:
    """Return a directory beside the packages, which the first process that needs it makes.

    make: makes it under the name that it is given; another process waits until that has ended.
    """
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            unfinished = kept.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(kept)
    return kept


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[tuple[str, Plant]]:
    """A LAN with a cloud and children: the name of the gateway's namespace, and the plant."""
    with on_a_lan(tmp_path) as found:
        yield found


@contextlib.contextmanager
def on_a_lan(directory: Path, *options: str, number: int = CHILDREN) -> Iterator[tuple[str, Plant]]:
    """Lay a LAN with a cloud and so many children until the block ends.  options: of its plant."""
    with (
        namespaces() as (gateway, children),
        plant(directory / "plant", children, "--children", str(number), *options) as running,
    ):
        yield gateway[-1], running


UNLIMITED = ("--rate", "0")
"""The cloud of a gateway that is tried in many ways lets a child log in as often as that takes."""


@pytest.fixture
def bare(root: Path, lan: tuple[str, Plant], memory: Path) -> Iterator[Gateway]:
    """A gateway on the LAN, without gatewayd."""
    with booted([root], lan, memory) as gateway:
        yield gateway


@pytest.fixture
def new(installed: Path, root: Path, lan: tuple[str, Plant], memory: Path) -> Iterator[Gateway]:
    """A gateway with gatewayd as it was installed: with a key, and not configured."""
    with booted([installed, root], lan, memory) as gateway:
        yield gateway


@pytest.fixture
def gateway(installed: Path, root: Path, lan: tuple[str, Plant], memory: Path) -> Iterator[Gateway]:
    """A gateway whose children are online; it was configured before it was switched on."""
    with booted([installed, root], lan, memory, action="register") as gateway:
        gateway.await_online(CHILDREN)
        yield gateway


@contextlib.contextmanager
def booted(
    layers: list[Path], lan: tuple[str, Plant], memory: Path, action: str = ""
) -> Iterator[Gateway]:
    """Boot a machine of these layers on a LAN.  action: of its rule; "" for no configuration."""
    namespace, running = lan
    changes = memory / "changes"
    box = Box(layers, changes, (f"--network-namespace-path=/run/netns/{namespace}",))
    gateway = Gateway(box, running, namespace)
    if action:
        gateway.prepare(action)
    box.boot()
    try:
        yield gateway
    finally:
        box.cut_power()
        shutil.rmtree(changes)
