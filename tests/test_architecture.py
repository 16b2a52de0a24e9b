"""Which module may import what, and how large things may be: ARCHITECTURE.md, made to fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gatewayd"
MODULES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({module.parent for module in MODULES})

LAW: dict[str, set[str]] = {
    "device": {"errors"},
    "runtime": {"errors"},
    "settings": {"errors"},
    "admission/policy": {"device", "settings", "errors"},
    "admission": {
        "device", "settings", "runtime", "errors", "cloud.provider", "discovery.discoverer",
    },
    "discovery": {"device", "settings", "runtime", "errors"},
    "registration": {"device", "settings", "runtime", "errors", "cloud.provider"},
    "sessions": {"device", "settings", "runtime", "errors", "cloud.provider"},
    "secretstore": {"device", "settings", "runtime", "errors"},
    "storage": {"secretstore.store", "device", "runtime", "errors"},
    "cloud": {"device", "settings", "runtime", "errors"},
    "dbus": {"device", "settings", "runtime", "errors"},
    "manager": {"device", "settings", "runtime", "errors", "admission"},
    "testing": {"device", "errors", "cloud.provider", "discovery.discoverer", "secretstore.store"},
    "simulator": {"errors"},
}  # fmt: skip
"""What each folder may import of ours, besides itself.  A longer name takes precedence."""

FREE = {"", "cli"}
"""The composition root and the command line may import everything that LAST does not name."""

LAST = {"cli", "app", "daemon", "simulator", "testing", "__main__"}
"""What nothing else imports."""

LAST_AMONG_THEMSELVES = {("__main__", "daemon"), ("daemon", "app")}

HOME: dict[str, set[str]] = {
    "aiohttp": {"simulator/huawei/management/server.py"},
    "paho": {"cloud/mqtt.py"},
    "gi": {"dbus/glib.py"},
    "pydbus": {"cli/client.py"},
    "keyring": {"secretstore/keyring/*.py", "secretstore/vault/keyring_backend.py"},
    "tpm2_pytss": {"secretstore/tpm/esapi.py"},
    "systemd": {"runtime/journal.py", "runtime/systemd.py"},
    "cryptography": {
        "cloud/ca/*.py",
        "cloud/huawei/identity.py",
        "cloud/huawei/subject.py",
        "secretstore/*/*.py",
        "simulator/huawei/x509.py",
        "simulator/pki.py",
    },
    "tomli": {"settings/files.py"},
    "zeroconf": {"discovery/mdns/zeroconf_backend.py"},
}
"""The only modules that may import each foreign package."""

PURE = {"device", "admission/policy"}
IO = {"asyncio", "socket", "ssl", "os", "threading", "subprocess", "time", "random", "logging"}

CLOUDS = {"alibaba", "huawei"}

MODULES_IN_A_FOLDER = {"": 12, "cloud/alibaba": 18, "cloud/huawei": 18,
                       "simulator/alibaba": 18, "simulator/huawei": 18}  # fmt: skip
USUAL_FOLDER = 14
LONGEST_MODULE = 600
LONGEST_FUNCTION = 60


def name_of(module: Path) -> str:
    """Name a module in a test's id."""
    return str(module.relative_to(PACKAGE))


def imports(module: Path) -> Iterator[str]:
    """Yield the full dotted name of everything a module imports."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(folder: str) -> set[str] | None:
    """Return what a folder may import, by the longest entry that fits; None for everything."""
    if folder in FREE:
        return None
    fitting = [name for name in LAW if f"{folder}/".startswith(f"{name}/")]
    assert fitting, f"{folder} is not in the import law"
    return LAW[max(fitting, key=len)] | {max(fitting, key=len).replace("/", ".")}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_imports_obey_the_law(module: Path) -> None:
    path = module.relative_to(PACKAGE)
    folder = str(path.parent).removeprefix(".")
    may = allowed(folder)
    for name in imports(module):
        top, _, rest = name.partition(".")
        if top != "gatewayd":
            continue
        part, own = rest.split(".")[0], folder.split("/")[0] or path.stem
        if may is not None:
            assert any(f"{rest}.".startswith(f"{a}.") for a in may), f"{path} imports {name}"
        if part in LAST and part != own:
            assert (own, part) in LAST_AMONG_THEMSELVES, f"{path} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_each_foreign_package_has_one_home(module: Path) -> None:
    for name in imports(module):
        homes = HOME.get(name.split(".")[0], {"*.py"})
        assert any(module.match(home) for home in homes), f"{name_of(module)} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_pure_folders_touch_nothing(module: Path) -> None:
    folder = str(module.parent.relative_to(PACKAGE))
    if folder in PURE:
        assert not {name.split(".")[0] for name in imports(module)} & IO


@pytest.mark.parametrize("module", sorted(PACKAGE.glob("cloud/**/*.py")), ids=name_of)
def test_no_cloud_knows_another(module: Path) -> None:
    """Nor does what they share know any of them."""
    own = module.relative_to(PACKAGE / "cloud").parts[0]
    for name in imports(module):
        top, *rest = name.split(".")
        if (top, *rest[:1]) == ("gatewayd", "cloud") and len(rest) > 1:
            assert rest[1] not in CLOUDS - {own}, f"{module.name} imports {name}"


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_folder_can_be_surveyed(folder: Path) -> None:
    modules = [one for one in folder.glob("*.py") if one.name != "__init__.py"]
    most = MODULES_IN_A_FOLDER.get(name_of(folder).removeprefix("."), USUAL_FOLDER)
    assert len(modules) <= most, f"{name_of(folder)} has {len(modules)} modules"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_modules_and_functions_stay_readable(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{module.name}:{node.lineno} {node.name}"
