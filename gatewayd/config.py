"""The configuration as frozen dataclasses, or all problems with it at once.

settings/files.py reads the files, settings/build.py builds the dataclasses.  Each plug-in has a
table, [discovery.NAME], [cloud.NAME] or [secretstore.NAME], whose settings it declares itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

from gatewayd.admission.rules import RuleSet, read_installed
from gatewayd.cloud.outbound import NetworkSettings, OutboundSettings
from gatewayd.credentials.settings import CredentialSettings
from gatewayd.dbus.bus import BusSettings
from gatewayd.device.identity import Trust
from gatewayd.discovery.births.settings import BirthsSettings
from gatewayd.discovery.probing.settings import ProbingSettings
from gatewayd.discovery.settings import InventorySettings
from gatewayd.errors import PluginError
from gatewayd.manager.cloud_requests import CloudRequestSettings
from gatewayd.messages.settings import MessageSettings
from gatewayd.monitoring.settings import MetricsSettings, NoticeSettings
from gatewayd.plugins import CLOUDS, DISCOVERERS, SECRETSTORES
from gatewayd.proofs.settings import NAME, ProofSettings
from gatewayd.registration.registrar import RegistrationSettings
from gatewayd.runtime.watched_file import WatchedPaths
from gatewayd.sessions.keeper import SessionSettings
from gatewayd.settings.build import SettingsBuilder, dotted
from gatewayd.settings.declare import FileUse, setting
from gatewayd.settings.files import (
    ConfigPaths,
    KeyPath,
    LayeredDocuments,
    Problem,
    Problems,
    read_layers,
    shown,
)
from gatewayd.settings.named_files import NamedFile, fault, named_files
from gatewayd.site.settings import SiteSettings


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """[gateway]"""

    state_directory: Path = setting(Path("/var/lib/gatewayd"), "directory of records and secrets")
    rules: tuple[Path, ...] = setting(
        (),
        "directories of rule files, the weakest first (default: every rules.d beside a conf.d)",
        file=FileUse.DIRECTORY,
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """[log]"""

    level: str = setting(
        "info", "least severe level that is logged", choices=("debug", "info", "warning", "error")
    )


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """[secretstore]"""

    backend: str = setting("vault", "plug-in that stores the secrets")


@dataclass(frozen=True, slots=True)
class ConfiguredPlugin:
    """A plug-in, and the settings in its table.

    name: of the table.  kind: of the plug-in.  plugin: its class.  settings: its `Settings`.
    """

    name: str
    kind: str
    plugin: Any
    settings: Any


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    gateway: GatewaySettings
    log: LogSettings
    site: SiteSettings
    network: NetworkSettings
    bus: BusSettings
    inventory: InventorySettings
    registration: RegistrationSettings
    sessions: SessionSettings
    messages: MessageSettings
    metrics: MetricsSettings
    notices: NoticeSettings
    credentials: CredentialSettings
    cloud_requests: CloudRequestSettings
    discoverers: tuple[ConfiguredPlugin, ...]
    store: ConfiguredPlugin
    clouds: tuple[ConfiguredPlugin, ...]
    rule_directories: tuple[Path, ...]
    proofs: Mapping[str, ProofSettings]

    def products(self) -> Mapping[str, frozenset[str] | None]:
        """Return the products of each cloud; None for one that does not list them."""
        return {one.name: _products(one.settings) for one in self.clouds}

    def named_files(self, credentials: Path | None = None) -> Iterator[NamedFile]:
        """Yield the files and directories that the settings name.

        credentials: $CREDENTIALS_DIRECTORY; None to leave credentials out.
        """
        for section in PLAIN:
            yield from named_files(getattr(self, section), (section,), credentials)
        for name, proof in self.proofs.items():
            yield from named_files(proof, ("proof", name), credentials)
        for section, plugins in (
            ("discovery", self.discoverers),
            ("secretstore", (self.store,)),
            ("cloud", self.clouds),
        ):
            for plugin in plugins:
                yield from named_files(plugin.settings, (section, plugin.name), credentials)


class PluginLoader(Protocol):
    """What finds the class of a plug-in: `Plugins`."""

    def load(self, group: str, name: str) -> Any:  # noqa: ANN401  # a class that the group defines
        """Return the class.  Raises PluginError."""


PLAIN: Mapping[str, type] = {
    "gateway": GatewaySettings,
    "log": LogSettings,
    "site": SiteSettings,
    "network": NetworkSettings,
    "bus": BusSettings,
    "registration": RegistrationSettings,
    "sessions": SessionSettings,
    "messages": MessageSettings,
    "metrics": MetricsSettings,
    "notices": NoticeSettings,
    "credentials": CredentialSettings,
    "cloud_requests": CloudRequestSettings,
}
"""The sections without plug-ins, by their names, which are also those in `Config`."""

SECTIONS: Mapping[str, type | None] = {
    **PLAIN,
    "discovery": InventorySettings,
    "secretstore": StoreSettings,
    "cloud": None,
    "proof": None,
}
"""The settings of each section; the tables of plug-ins inside it are declared by those."""

NAMED: Mapping[str, type] = {"proof": ProofSettings}
"""The settings of the tables in a section that has no others: each is [SECTION.NAME]."""


def load(paths: ConfigPaths, plugins: PluginLoader) -> Config:
    """Read the configuration alone, without a look at rules and at the files that it names.

    Raises ConfigError, one line for each problem.
    """
    problems = Problems()
    config = _Reader.of(read_layers(paths, problems), problems, plugins).config(_rules(paths))
    problems.check()
    assert config is not None, "without a configuration there is a problem"
    return config


def differences(before: Config, after: Config) -> list[str]:
    """Return the sections that differ, without those that take effect at a reload."""
    names = (*PLAIN, "inventory", "discoverers", "clouds", "proofs")
    changed = [n for n in names if n != "log" and getattr(before, n) != getattr(after, n)]
    return changed + (["secretstore"] if before.store != after.store else [])


@dataclass(frozen=True, slots=True)
class Installation:
    """The configuration and the rules, as gatewayd can use them."""

    config: Config
    rules: RuleSet


@dataclass(frozen=True, slots=True)
class Examined:
    """The configuration and the rules as they were read, with all that is wrong with them.

    config: None where it cannot be used.
    """

    config: Config | None
    rules: RuleSet
    problems: Problems

    def accepted(self, warn: Callable[[Problem], None]) -> Installation:
        """Return what gatewayd can use.  Raises ConfigError, one line for each problem.

        warn: receives each warning.
        """
        for problem in self.problems.warnings:
            warn(problem)
        self.problems.check()
        assert self.config is not None, "without a configuration there is a problem"
        return Installation(self.config, self.rules)


def examine(paths: ConfigPaths, plugins: PluginLoader, *, as_daemon: bool) -> Examined:
    """Read configuration and rules, and look at all files that they name.  Blocks.

    The one check behind the start, a reload, --check-config, `rules check` and `preflight`.
    as_daemon: whether this process can read what gatewayd can, and nothing else.
    """
    problems = Problems()
    source = read_layers(paths, problems)
    config = _Reader.of(source, problems, plugins).config(_rules(paths))
    if config is None:
        return Examined(None, read_installed(_rules(paths), problems), problems)
    for named in config.named_files():
        text, fatal = fault(named, as_daemon=as_daemon)
        if text:
            problems.add(source.where(named.at), f"{dotted(named.at)}: {text}", fatal=fatal)
    rules = read_installed(config.rule_directories, problems)
    rules.check(problems, config.products(), partial(_hands_over, config.clouds))
    _check_holders(config, rules, source, problems)
    _check_proofs(config, rules, problems)
    _check_doors(config.messages, source, problems)
    _check_births(config, source, problems)
    _check_interfaces(config, source, problems)
    _check_site(config, source, problems)
    return Examined(config, rules, problems)


def check(paths: ConfigPaths, plugins: PluginLoader, *, as_daemon: bool = False) -> list[Problem]:
    """Return all problems of the configuration and the rules, warnings too."""
    return examine(paths, plugins, as_daemon=as_daemon).problems.found


def _check_holders(
    config: Config, rules: RuleSet, source: LayeredDocuments, problems: Problems
) -> None:
    """Note credentials that are for children of no rule, or of one that holds none back."""
    held = {rule.name: rule.held for rule in rules.rules}
    for kind, name, rule in config.credentials.rules():
        if not held.get(rule):
            why = 'does not say session = "holder"' if rule in held else "does not exist"
            at = ("credentials", kind, name, "rule")
            problems.add(source.where(at), f"{dotted(at)}: rule {shown(rule)} {why}: correct it")


def _check_proofs(config: Config, rules: RuleSet, problems: Problems) -> None:
    """Note rules whose proof does not exist, or cannot prove what they require."""
    for number, rule in enumerate(rules.rules):
        proof, text = config.proofs.get(rule.proof), ""
        if rule.proof and proof is None:
            known = ", ".join(sorted(config.proofs)) or "none"
            text = f"names {rule.proof}, which is no table [proof.NAME]: known are {known}"
        elif proof is not None and rule.trust is Trust.PROVEN and not proof.proves_identity:
            text = (
                f"requires a proven identity, and [proof.{rule.proof}] has no ca_files, so that it "
                "pins a key alone: add them, or require pinned"
            )
        if text:
            problems.add(rules.place(number, "proof"), f"rule {rule.name} {text}")


def _check_doors(messages: MessageSettings, source: LayeredDocuments, problems: Problems) -> None:
    """Warn of messages that nothing can come in by."""
    is_carried = any(door.carries_messages for door in messages.doors.values())
    if messages.enabled and not messages.broker.enabled and not is_carried:
        at = ("messages", "enabled")
        text = "no message can come in: enable [messages.broker], or add a [messages.doors.NAME]"
        problems.add(source.where(at), f"{dotted(at)}: {text}", fatal=False)


def _check_births(config: Config, source: LayeredDocuments, problems: Problems) -> None:
    """Note births at a door that does not exist, and doors at which nothing at all is read."""
    doors, read = config.messages.doors, set()
    for plugin in config.discoverers:
        if isinstance(plugin.settings, BirthsSettings):
            read |= set(plugin.settings.doors)
            for missing in [one for one in plugin.settings.doors if one not in doors]:
                at: KeyPath = ("discovery", plugin.name, "doors")
                text = f"there is no [messages.doors.{shown(missing)}]: add it, or correct the name"
                problems.add(source.where(at), f"{dotted(at)}: {text}")
    for name, settings in doors.items():
        if not settings.carries_messages and name not in read:
            at = ("messages", "doors", name)
            text = "topics is empty: nothing would be read; see gatewayd.toml(5)"
            problems.add(source.where(at), f"{dotted(at)}: {text}")


def _check_interfaces(config: Config, source: LayeredDocuments, problems: Problems) -> None:
    """Note interfaces on which two sections of one kind would ask: the port of one is the other's,
    and each device would be asked twice as often as either says."""
    asking: dict[tuple[str, str], str] = {}
    for plugin in config.discoverers:
        if isinstance(plugin.settings, ProbingSettings):
            for interface in dict.fromkeys(plugin.settings.interfaces):
                other = asking.setdefault((plugin.kind, interface), plugin.name)
                if other != plugin.name:
                    at: KeyPath = ("discovery", plugin.name, "interfaces")
                    text = f"[discovery.{other}] asks on {interface} by {plugin.kind}, too: name it"
                    problems.add(source.where(at), f"{dotted(at)}: {text} in one of them")


def _check_site(config: Config, source: LayeredDocuments, problems: Problems) -> None:
    """Note names of the gateway itself that no other gateway of its site could log in with."""
    for cloud in config.clouds if config.site.endpoints else ():
        if getattr(cloud.settings, "issues_own_secret", False):
            at: KeyPath = ("cloud", cloud.name, "gateway")
            text = (
                "its secret would be issued to this gateway alone, and another one of the site "
                "cannot log in with it: give all gateways the same one by a file or a credential"
            )
            problems.add(source.where(at), f"{dotted(at)}: {text}")


def _hands_over(clouds: Iterable[ConfiguredPlugin], cloud: str, route: str) -> bool:
    """Whether children of a cloud, by a route, can have holders; also of one that is not known."""
    found = next((one.plugin for one in clouds if one.name == cloud), None)
    able = getattr(found, "hands_over", None)
    return found is None or (able is not None and bool(able(route)))


def _rules(paths: ConfigPaths) -> tuple[Path, ...]:
    return tuple(directory / "rules.d" for directory in paths.directories)


def _with_network(cloud: ConfiguredPlugin, network: NetworkSettings | None) -> ConfiguredPlugin:
    """Return a cloud with the way out of the site that it has not set itself."""
    if network is None or not isinstance(cloud.settings, OutboundSettings):
        return cloud
    return replace(cloud, settings=cloud.settings.with_default(network))


def _products(settings: object) -> frozenset[str] | None:
    """Return the products of a cloud, if its settings name them; None for any product.

    An empty list allows every product.
    """
    products = getattr(settings, "products", None)
    return frozenset(products) if isinstance(products, Mapping | tuple) and products != () else None


@dataclass(frozen=True, slots=True)
class _Reader:
    """The reader of one configuration, section by section."""

    source: LayeredDocuments
    builder: SettingsBuilder
    plugins: PluginLoader

    @classmethod
    def of(cls, source: LayeredDocuments, problems: Problems, plugins: PluginLoader) -> Self:
        """Return a reader that notes these problems."""
        return cls(source, SettingsBuilder(source, problems), plugins)

    def config(self, rules: tuple[Path, ...]) -> Config | None:
        before = self.builder.problems.errors
        self.builder.refuse_unknown(self.source.table, SECTIONS, ())
        made = {name: self._section(cls, name) for name, cls in PLAIN.items()}
        scalars, tables = self._split("discovery", InventorySettings)
        made["inventory"] = self.builder.build(InventorySettings, scalars, ("discovery",))
        made["discoverers"] = self._plugins(DISCOVERERS, "discovery", tables)
        made["store"] = self._store()
        clouds = self._plugins(CLOUDS, "cloud", self._clouds())
        made["clouds"] = tuple(_with_network(one, made["network"]) for one in clouds)
        made["proofs"] = self._proofs()
        self._check_budgets(made["messages"])
        self._check_credentials(made["credentials"])
        made["rule_directories"] = getattr(made["gateway"], "rules", ()) or rules
        return None if self.builder.problems.errors > before else Config(**made)

    def _check_budgets(self, messages: MessageSettings | None) -> None:
        """Note budgets of clouds that are not configured, most likely misspelt."""
        for name in messages.clouds if messages is not None else ():
            if name not in self._clouds():
                at = ("messages", "clouds", name)
                self.builder.note(
                    at, f"[{dotted(at)}] is for no cloud: name it as its table [cloud.NAME]"
                )

    def _check_credentials(self, credentials: CredentialSettings | None) -> None:
        """Note what names of units and users are wrong."""
        for kind, name, text in credentials.faults() if credentials is not None else ():
            at = ("credentials", kind, name)
            self.builder.note(at, f"[{dotted(at)}] {text}")

    def _section(self, cls: type[Any], name: str) -> Any:  # noqa: ANN401  # an instance of the class
        return self.builder.build(cls, self.source.table.get(name, {}), (name,))

    def _split(self, name: str, cls: type[Any]) -> tuple[object, Mapping[str, Any]]:
        """Split a section into its own settings and the tables of its plug-ins."""
        section = self.source.table.get(name, {})
        if not isinstance(section, Mapping):
            return section, {}
        own = {one.name for one in fields(cls)}
        tables = {k: v for k, v in section.items() if isinstance(v, Mapping) and k not in own}
        return {k: v for k, v in section.items() if k not in tables}, tables

    def _clouds(self) -> Mapping[str, Any]:
        return self._tables("cloud")

    def _tables(self, section: str) -> Mapping[str, Any]:
        """Return the tables of a section that has nothing else."""
        tables = self.source.table.get(section, {})
        if isinstance(tables, Mapping):
            return tables
        self.builder.note((section,), f"{section} must be a table: write [{section}.NAME]")
        return {}

    def _proofs(self) -> Mapping[str, ProofSettings]:
        made: dict[str, ProofSettings] = {}
        for name, table in self._tables("proof").items():
            at = ("proof", name)
            if not NAME.fullmatch(name):
                text = "is not a name: use lower-case letters and digits"
                self.builder.note(at, f"[{dotted(at)}] {text}")
            elif (proof := self.builder.build(ProofSettings, table, at)) is not None:
                made[name] = proof
        return made

    def _plugins(
        self, group: str, section: str, tables: Mapping[str, Any]
    ) -> tuple[ConfiguredPlugin, ...]:
        made = (self._plugin(group, name, table, (section, name)) for name, table in tables.items())
        return tuple(one for one in made if one)

    def _store(self) -> ConfiguredPlugin | None:
        scalars, tables = self._split("secretstore", StoreSettings)
        store = self.builder.build(StoreSettings, scalars, ("secretstore",))
        if store is None:
            return None
        for name in tables:
            if name != store.backend:
                text = f"[secretstore.{shown(name)}] is not used: set 'backend' to it, or remove it"
                self.builder.note(("secretstore", name), text)
        at = ("secretstore", store.backend)
        return self._plugin(SECRETSTORES, store.backend, tables.get(store.backend, {}), at)

    def _plugin(self, group: str, name: str, table: object, at: KeyPath) -> ConfiguredPlugin | None:
        """Load one plug-in, and build its settings; `kind` names it if its table does not."""
        if not isinstance(table, Mapping):
            self.builder.note(at, f"{dotted(at)} must be a table")
            return None
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", name):
            self.builder.note(
                at, f"[{dotted(at)}] is not a name: use lower-case letters and digits"
            )
            return None
        kind = table.get("kind", name)
        if not isinstance(kind, str):
            self.builder.note((*at, "kind"), f"{dotted((*at, 'kind'))} must be a text")
            return None
        try:
            plugin = self.plugins.load(group, kind)
        except PluginError as error:
            self.builder.note(at, f"[{dotted(at)}]: {error}")
            return None
        own = {key: value for key, value in table.items() if key != "kind"}
        settings = self.builder.build(plugin.Settings, own, at)
        return None if settings is None else ConfiguredPlugin(name, kind, plugin, settings)


MAX_NAMED = 20
"""Files that are named in one line of the log."""


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file that has changed.  at: the setting that names it; empty for the list of a rule."""

    at: KeyPath
    path: Path

    @property
    def cloud(self) -> str:
        """The cloud that it belongs to; "" for none."""
        return str(self.at[1]) if self.at[:1] == ("cloud",) else ""

    def __str__(self) -> str:
        return f"{dotted(self.at) or 'list'} ({self.path})"


class FilesInUse:
    """The files that are in use, by their content.

    config: the one in force since the start.  credentials: $CREDENTIALS_DIRECTORY, or None.
    """

    def __init__(self, config: Config, credentials: Path | None) -> None:
        self._named = [(named.at, named.path) for named in config.named_files(credentials)]
        self._watched = WatchedPaths()

    def changed(self, lists: Iterable[Path]) -> list[ChangedFile]:
        """Return those that have changed since the last call, none at the first.  Blocks.

        lists: of the rules in force from now on.
        """
        of_rules: list[tuple[KeyPath, Path]] = [((), path) for path in sorted(lists)]
        files = [*self._named, *of_rules]
        changed = self._watched.changed(path for _, path in files)
        return [ChangedFile(at, path) for at, path in files if path in changed]


def changed_files(changed: list[ChangedFile]) -> str:
    """Return which files have changed."""
    names = [str(one) for one in changed[:MAX_NAMED]]
    more = len(changed) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
