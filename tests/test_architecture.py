"""Which module may import what, and how large things may be: ARCHITECTURE.md, made to fail."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gatewayd"

LAW: dict[str, set[str]] = {
    "device": {"errors"},
    "runtime": {"errors"},
    "settings": {"errors"},
    "admission/policy": {"device", "settings", "errors"},
    "admission": {
        "device", "settings", "runtime", "errors", "cloud.provider", "discovery.discoverer",
        "discovery.name_rules",
    },
    "discovery": {
        "device", "settings", "runtime", "errors", "network.http_head", "network.http_response",
        "network.mqtt_rules", "network.protobuf",
    },
    "discovery/helper": {"discovery", "device", "settings", "runtime", "errors", "plugins"},
    "proofs": {
        "device", "settings", "runtime", "errors", "ca", "discovery.protocols.opc_ua",
        "discovery.probing.protocol",
    },
    "registration": {"device", "settings", "runtime", "errors", "cloud.provider"},
    "sessions": {"device", "settings", "runtime", "errors", "cloud.provider"},
    "commands": {"device", "runtime", "errors", "cloud.provider"},
    "messages": {
        "device", "settings", "runtime", "network", "ca", "errors", "cloud.provider",
        "commands.door",
    },
    "credentials": {"device", "settings", "runtime", "errors", "cloud.provider"},
    "monitoring": {"device", "settings", "runtime", "errors"},
    "secretstore": {"device", "settings", "runtime", "errors"},
    "storage": {"secretstore.store", "device", "runtime", "errors"},
    "network": {"device", "runtime", "errors"},
    "ca": {"device", "runtime", "errors"},
    "cloud": {"device", "settings", "runtime", "network", "ca", "errors"},
    "console": {"device.secret", "runtime", "network", "cloud.http", "errors"},
    "site": {
        "device", "settings", "runtime", "network", "errors", "admission.ownership",
        "admission.placed_records", "cloud.http", "cloud.credentials", "cloud.paho_socket",
        "cloud.provider", "secretstore.store", "secretstore.vault.crypto",
        "secretstore.keyslots.recovery", "storage", "ca",
    },
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
    "aiohttp": {"simulator/alibaba/open_api/server.py", "simulator/huawei/management/server.py"},
    "paho": {"cloud/mqtt.py"},
    "gi": {"dbus/glib.py"},
    "pydbus": {"cli/client.py"},
    "keyring": {"secretstore/keyring/*.py", "secretstore/vault/keyring_backend.py"},
    "tpm2_pytss": {"secretstore/tpm/esapi.py"},
    "cryptography": {
        "ca/*.py",
        "cloud/mqtt_broker/certificate.py",
        "cloud/huawei/subject.py",
        "network/tls.py",
        "proofs/application.py",
        "proofs/certificate.py",
        "proofs/chain.py",
        "proofs/secure_channel.py",
        "secretstore/*/*.py",
        "simulator/huawei/x509.py",
        "simulator/pki.py",
    },
    "prometheus_client": {"monitoring/exposition.py"},
    "tomli": {"settings/files.py"},
    "zeroconf": {"discovery/mdns/zeroconf_backend.py"},
}
"""The only modules that may import each foreign package."""

PURE = {"device", "admission/policy"}
IO = {"asyncio", "socket", "ssl", "os", "threading", "subprocess", "time", "random", "logging"}

CLOUDS = {"alibaba", "huawei"}
"""None of them knows another, and what they share knows none of them."""

MODULES_IN_A_FOLDER = {"": 12, "cloud/alibaba": 18, "cloud/huawei": 18,
                       "simulator/alibaba": 18, "simulator/huawei": 18}  # fmt: skip
USUAL_FOLDER = 14
LONGEST_MODULE = 600
LONGER: Mapping[str, str] = {}
"""Longer modules, with the reason."""
LONGEST_FUNCTION = 60

SHORTEST_MODULE = 80
SHORTER: Mapping[str, str] = {
    "admission/authenticated_devices.py": "one idea, between discovery and admission",
    "admission/proven_devices.py": "one idea, between discovery and admission",
    "cli/credentials.py": "a module for each group of commands",
    "cli/pass_secret.py": "a command, which a unit of its own runs",
    "cli/store.py": "a module for each group of commands",
    "cli/watching/metrics.py": "a module for each group of commands",
    "discovery/kernel/routes.py": "one question to the kernel, which the poller of hosts asks",
    "cloud/mqtt_broker/provider.py": "an entry point, as the providers of other clouds",
    "messages/broker/connection_limit.py": "a command, which a unit of its own runs",
    "proofs/link.py": "one idea: how far a connection to a device may reach",
    "monitoring/public_files.py": "one idea: what everyone may read, and finds whole",
    "messages/broker/takeover.py": "the one place that speaks MQTT for the broker's users",
    "simulator/mqtt/journal.py": "one idea: what a campaign is judged by, of whatever a cloud sees",
    "settings/former_names.py": "a table of its own, which grows with each renaming",
    "settings/named_files.py": "one idea that the configuration alone uses",
    "testing/clock.py": "for authors of plug-ins",
}
"""Shorter modules that one other module of the product imports, with the reason."""


@dataclass(frozen=True)
class Module:
    """A module of the product, or a planted one.  path: below the package."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @cached_property
    def imports(self) -> list[str]:
        """The full dotted name of everything it imports."""
        names: list[str] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names += (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "")
                names += (f"{base}.{alias.name}" for alias in node.names)
        return names

    @property
    def own_imports(self) -> Iterator[str]:
        """What it imports of the product, below the package."""
        return (n.partition(".")[2] for n in self.imports if n.startswith("gatewayd."))


def allowed(folder: str) -> set[str] | None:
    """Return what a folder may import, by the longest entry that fits; None for everything."""
    if folder in FREE or folder.startswith("cli/"):
        return None
    fitting = [name for name in LAW if f"{folder}/".startswith(f"{name}/")]
    if not fitting:
        return set()
    return LAW[max(fitting, key=len)] | {max(fitting, key=len).replace("/", ".")}


def unlawful_imports(module: Module) -> Iterator[str]:
    """Yield what a folder must not import, by LAW and LAST."""
    may = allowed(module.folder)
    own = module.folder.split("/")[0] or Path(module.path).stem
    yield from (name for name in module.imports if name.startswith("."))
    for name in module.own_imports:
        part = name.split(".")[0]
        lawful = may is None or any(f"{name}.".startswith(f"{one}.") for one in may)
        if not lawful or (part in LAST - {own} and (own, part) not in LAST_AMONG_THEMSELVES):
            yield name


def foreign_packages_away_from_home(module: Module) -> Iterator[str]:
    """Yield what is imported outside of its HOME."""
    for name in module.imports:
        homes = HOME.get(name.split(".")[0], {"*.py"})
        if not any((PACKAGE / module.path).match(home) for home in homes):
            yield name


def impure_imports(module: Module) -> Iterator[str]:
    """Yield what touches the world in a folder that decides."""
    if module.folder in PURE:
        yield from (name for name in module.imports if name.split(".")[0] in IO)


def clouds_that_know_another(module: Module) -> Iterator[str]:
    """Yield imports of a cloud by another, or by what they share; of a console likewise."""
    top, _, rest = module.path.partition("/")
    if top in ("cloud", "console"):
        foreign = CLOUDS - {rest.split("/")[0]}
        yield from (n for n in module.own_imports if set(n.split(".")[1:2]) & foreign
                    and n.startswith(f"{top}."))  # fmt: skip


def oversized(module: Module) -> Iterator[str]:
    """Yield a module, and functions, that are too long to be read at once."""
    lines = len(module.source.splitlines())
    if lines > LONGEST_MODULE and module.path not in LONGER:
        yield f"{lines} lines"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if (length := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION:
                yield f"{node.name} has {length} lines"


RULES = (
    unlawful_imports,
    foreign_packages_away_from_home,
    impure_imports,
    clouds_that_know_another,
    oversized,
)


def crowded_folders(modules: Iterable[Module]) -> dict[str, int]:
    """Return folders with more modules than can be surveyed."""
    counts: dict[str, int] = defaultdict(int)
    for module in modules:
        counts[module.folder] += not module.path.endswith("__init__.py")
    most = {folder: MODULES_IN_A_FOLDER.get(folder, USUAL_FOLDER) for folder in counts}
    return {folder: count for folder, count in counts.items() if count > most[folder]}


def classes_of_one_name(modules: Iterable[Module]) -> dict[str, list[str]]:
    """Return public classes whose name stands in several modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module.path)
    return {name: where for name, where in places.items() if len(where) > 1}


def fragments(modules: Iterable[Module]) -> list[str]:
    """Return short modules that one other module imports, or none."""
    importers: dict[str, set[str]] = defaultdict(set)
    modules = list(modules)
    paths = {m.path.removesuffix(".py").replace("/", "."): m.path for m in modules}
    for module in modules:
        for name in module.own_imports:
            target = paths.get(name) or paths.get(name.rpartition(".")[0], "")
            importers[target].add(module.path)
    return [
        m.path
        for m in modules
        if len(m.source.splitlines()) < SHORTEST_MODULE
        and len(importers[m.path]) < 2  # one, or none
        and not Path(m.path).name.startswith("__")
        and m.path not in SHORTER
    ]


PRODUCT = [
    Module(str(path.relative_to(PACKAGE)), path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
]


@pytest.mark.parametrize("module", PRODUCT, ids=lambda module: module.path)
def test_a_module_obeys_the_rules(module: Module) -> None:
    assert not {rule.__name__: list(rule(module)) for rule in RULES if list(rule(module))}


def test_every_folder_is_in_the_law() -> None:
    for folder in {module.folder for module in PRODUCT}:
        assert allowed(folder) != set(), f"{folder} is not in LAW"


def test_folders_can_be_surveyed() -> None:
    assert not crowded_folders(PRODUCT)


def test_a_class_name_means_one_thing() -> None:
    assert not classes_of_one_name(PRODUCT)


def test_no_idea_is_cut_into_fragments() -> None:
    assert not fragments(PRODUCT)
    assert {*SHORTER, *LONGER} <= {module.path for module in PRODUCT}


PLANTED = {
    "device/x.py": "from gatewayd.runtime import clock",
    "storage/x.py": "from gatewayd.secretstore.vault import vault",
    "manager/x.py": "import gatewayd.app",
    "new/x.py": "from gatewayd.device import record",
    "config.py": "from gatewayd.cli import main",
    "sessions/x.py": "from gatewayd.sessions import y\nfrom . import y",
    "discovery/x.py": "import keyring",
    "admission/policy/x.py": "import time",
    "cloud/huawei/x.py": "from gatewayd.cloud.alibaba import alink",
    "cloud/x.py": "from gatewayd.cloud.huawei import login",
    "console/alibaba/x.py": "from gatewayd.console.huawei import api",
    "runtime/long.py": "\n" * 601,
    "runtime/function.py": "def f():\n" + "    pass\n" * 60,
}


@pytest.mark.parametrize("path", sorted(PLANTED))
def test_a_planted_offence_is_found(path: str) -> None:
    module = Module(path, PLANTED[path])
    assert [offence for rule in RULES for offence in rule(module)]


def test_a_planted_offence_among_modules_is_found() -> None:
    crowd = [Module(f"device/m{number}.py", "class Device: ...") for number in range(15)]
    assert crowded_folders(crowd) == {"device": 15}
    assert set(classes_of_one_name(crowd)) == {"Device"}
    assert "device/m3.py" in fragments(crowd)
