"""The configuration is read as a whole, or all its problems are reported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tomli

from gatewayd.cloud.outbound import OutboundSettings
from gatewayd.config import (
    MAX_NAMED,
    PLAIN,
    SECTIONS,
    ChangedFile,
    Config,
    FilesInUse,
    changed_files,
    check,
    load,
)
from gatewayd.errors import ConfigError
from gatewayd.plugins import CLOUDS, DISCOVERERS, GROUPS, SECRETSTORES, Plugins
from gatewayd.settings.build import SettingsBuilder, looks_secret
from gatewayd.settings.declare import REQUIRED, FileUse, setting
from gatewayd.settings.files import ConfigPaths, Document, Problems
from gatewayd.settings.grammar import credential_name
from tools import config_manual, config_sample

TOP = Path(__file__).parent.parent


@dataclass(frozen=True)
class Product:
    secret_file: str = setting("", "where its secret is")


@dataclass(frozen=True)
class CloudSettings:
    host: str = setting(REQUIRED, "its host")
    products: Mapping[str, Product] = setting({}, "its products")

    def problems(self) -> Iterator[str]:
        if not self.host:
            yield "the host is not known: set host"


class Cloud:
    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = CloudSettings


@dataclass(frozen=True)
class ListSettings:
    products: tuple[str, ...] = setting((), "its products; none given: any")


class ListCloud:
    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = ListSettings


@dataclass(frozen=True)
class EarSettings:
    interfaces: tuple[str, ...] = setting((), "where to listen")


class Ear:
    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = EarSettings


@dataclass(frozen=True)
class SafeSettings:
    key: str = setting("credential", "where the key is", choices=("credential", "tpm"))


class Safe:
    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = SafeSettings


class HoldableCloud(ListCloud):
    port_version: ClassVar[str] = "1.0"

    @classmethod
    def hands_over(cls, route: str) -> bool:
        return route in {"", "direct"}


@dataclass(frozen=True)
class HubSettings(ListSettings):
    register: bool = setting(False, "whether its own secret is issued to it")

    @property
    def issues_own_secret(self) -> bool:
        return self.register


class HubCloud:
    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = HubSettings


class ProxiedCloud:
    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = OutboundSettings


HERE = __name__
PLUGINS = Plugins(
    [
        EntryPoint("ear", f"{HERE}:Ear", DISCOVERERS),
        EntryPoint("sky", f"{HERE}:Cloud", CLOUDS),
        EntryPoint("list", f"{HERE}:ListCloud", CLOUDS),
        EntryPoint("holdable", f"{HERE}:HoldableCloud", CLOUDS),
        EntryPoint("far", f"{HERE}:ProxiedCloud", CLOUDS),
        EntryPoint("hub", f"{HERE}:HubCloud", CLOUDS),
        EntryPoint("vault", f"{HERE}:Safe", SECRETSTORES),
        EntryPoint("safe", f"{HERE}:Safe", SECRETSTORES),
    ]
)


@pytest.fixture
def paths(tmp_path: Path) -> ConfigPaths:
    return ConfigPaths.under(tmp_path)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def configured(paths: ConfigPaths, text: str) -> Config:
    write(paths.main, text)
    return load(paths, PLUGINS)


def problems_of(paths: ConfigPaths, text: str) -> list[str]:
    write(paths.main, text)
    return [str(one).replace(f"{paths.main.parent}/", "") for one in check(paths, PLUGINS)]


def test_without_any_file_all_is_default_and_nothing_is_discovered(paths: ConfigPaths) -> None:
    config = load(paths, PLUGINS)
    for name, cls in PLAIN.items():
        assert getattr(config, name) == cls()
    assert (config.discoverers, config.clouds) == ((), ())
    assert (config.store.name, config.store.settings) == ("vault", SafeSettings())
    assert config.rule_directories == tuple(one / "rules.d" for one in paths.directories)
    assert check(paths, PLUGINS) == []


def test_plugins_get_the_table_of_their_name(paths: ConfigPaths) -> None:
    config = configured(
        paths,
        """
        [gateway]
        state_directory = "/srv/gw"
        rules = ["/srv/rules"]
        [discovery]
        settle = 1
        [discovery.ear]
        interfaces = ["lan0"]
        [discovery.other]
        kind = "ear"
        [cloud.one]
        kind = "sky"
        host = "h"
        products = { p1 = { secret_file = "/s" } }
        [secretstore]
        backend = "safe"
        [secretstore.safe]
        key = "tpm"
        """,
    )
    assert config.gateway.state_directory == Path("/srv/gw")
    assert config.rule_directories == (Path("/srv/rules"),)
    assert config.inventory.settle == 1.0
    ear, other = config.discoverers
    assert (ear.name, ear.kind, ear.settings) == ("ear", "ear", EarSettings(("lan0",)))
    assert (other.name, other.kind, other.settings) == ("other", "ear", EarSettings())
    (cloud,) = config.clouds
    assert (cloud.name, cloud.kind, cloud.plugin.__name__) == ("one", "sky", "Cloud")
    assert cloud.settings.products == {"p1": Product("/s")}
    assert (config.store.name, config.store.settings.key) == ("safe", "tpm")


def test_a_file_that_is_named_brings_only_what_lies_beside_it(
    paths: ConfigPaths, tmp_path: Path
) -> None:
    write(paths.main, "[log]\nlevel = 'error'\n")
    mine = write(tmp_path / "demo/demo.toml", "[bus]\naddress = 'unix:path=/x'\n")
    write(tmp_path / "demo/conf.d/1.toml", "[log]\nlevel = 'debug'\n")
    config = load(ConfigPaths.of(mine), PLUGINS)
    assert (config.log.level, config.bus.address) == ("debug", "unix:path=/x")
    assert config.rule_directories == (tmp_path / "demo/rules.d",)


@pytest.mark.parametrize(
    ("text", "line", "fact"),
    [
        ("[gatway]", 1, "'gateway'"),
        ("gateway = 1", 1, "gateway"),
        ("discovery = 1", 1, "discovery"),
        ("cloud = 1", 1, "[cloud.NAME]"),
        ("[cloud]\nsky = 1", 2, "cloud.sky"),
        ("[cloud.'a b']", 1, "[cloud.a b]"),
        ("[cloud.sky]\nhost = ''", 1, "[cloud.sky]: the host is not known"),
        ("[cloud.sky]\nkind = 1", 2, "cloud.sky.kind"),
        ("[cloud.sky]", 1, "cloud.sky lacks 'host'"),
        ("[cloud.sky]\nhost = 'h'\nproduct_secret = 'CANARY'", 3, "'product_secret'"),
        (
            "[cloud.moon]",
            1,
            "no plug-in 'moon' in gatewayd.clouds; installed: far, holdable, hub, list",
        ),
        ("[discovery]\nsetle = 1", 2, "'setle' in [discovery]"),
        (
            "[discovery.a]",
            1,
            "no plug-in 'a' in gatewayd.discoverers; installed: ear: correct the name, set",
        ),
        ("[discovery.ear]\nintefaces = []", 2, "'interfaces'"),
        ("[secretstore]\nbackend = 'sfe'", 1, "[secretstore.sfe]: no plug-in 'sfe'"),
        ("[secretstore]\nbackend = 1", 2, "secretstore.backend"),
        ("[secretstore.safe]", 1, "[secretstore.safe]"),
        ("[secretstore.vault]\nkey = 'CANARY'", 2, "secretstore.vault.key"),
        ("[log]\nlevel = 'inof'", 2, "debug, info,"),
        ("[log", 1, "TOML"),
    ],
)
def test_a_problem_has_a_line_a_key_and_a_remedy(
    paths: ConfigPaths, text: str, line: int, fact: str
) -> None:
    (found,) = problems_of(paths, text)
    assert found.startswith(f"gatewayd.toml:{line}: ")
    assert fact in found
    assert "CANARY" not in found


def test_a_problem_is_told_where_a_drop_in_set_it(paths: ConfigPaths) -> None:
    write(paths.main, "[log]\nlevel = 'debug'\n")
    write(paths.directories[0] / "conf.d/1.toml", "\n[log]\nlevel = 'x'\n")
    with pytest.raises(ConfigError, match=r"usr/lib/gatewayd/conf\.d/1\.toml:3: log\.level"):
        load(paths, PLUGINS)


def test_everything_is_raised_at_once(paths: ConfigPaths) -> None:
    text = "[log]\nlevel = 'x'\n[registration]\nin_flight = 0\n[cloud.moon]\n[zzz]\n"
    write(paths.directories[0] / "conf.d/1.toml", "x =")
    with pytest.raises(ConfigError) as raised:
        configured(paths, text)
    assert len(str(raised.value).splitlines()) == 5


def test_a_proof_is_a_table_of_its_own(paths: ConfigPaths) -> None:
    text = "[proof.axis]\nport = 443\nca_files = ['/etc/ssl/axis.pem']\nidentity = 'name'\n"
    proof = configured(paths, text).proofs["axis"]
    assert (proof.port, proof.ca_files, proof.identity) == (
        443,
        (Path("/etc/ssl/axis.pem"),),
        "name",
    )
    assert proof.proves_identity


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[proof.axis]", "gatewayd.toml:1: proof.axis lacks 'port': add it"),
        ("[proof.axis]\nport = 0", "gatewayd.toml:2: proof.axis.port must be at least 1"),
        ("[proof.axis]\nport = 443\nkind = 'ipsec'", "gatewayd.toml:3: proof.axis.kind must"),
        ("[proof.axis]\nport = 443\nca_file = 'x'", "gatewayd.toml:3: unknown key 'ca_file'"),
        ("[proof.Axis]\nport = 443", "gatewayd.toml:1: [proof.Axis] is not a name"),
        ("proof = 1", "gatewayd.toml:1: proof must be a table: write [proof.NAME]"),
        ("[proof.a]\nport = 22\nkind = 'ssh'\nca_files = ['/x']",
         "gatewayd.toml:1: [proof.a]: a host key of SSH has no certificate"),
        ("[proof.a]\nport = 1\nidentity = 'mac'", "gatewayd.toml:3: proof.a.identity must"),
    ],
)  # fmt: skip
def test_a_wrong_proof_is_refused_with_its_line(
    paths: ConfigPaths, text: str, problem: str
) -> None:
    assert problems_of(paths, text)[0].startswith(problem)


@pytest.mark.parametrize(
    ("proof", "trust", "problem"),
    [
        ("axis", "proven", ""),
        ("axis", "pinned", ""),
        ("axis", "listed", ""),
        ("lamp", "pinned", ""),
        ("lamp", "proven", "rule cameras requires a proven identity, and [proof.lamp] has no"),
        ("other", "pinned", "rule cameras names other, which is no table [proof.NAME]: known are"),
    ],
)  # fmt: skip
def test_a_rule_names_a_proof_that_proves_what_it_requires(
    paths: ConfigPaths, proof: str, trust: str, problem: str
) -> None:
    write(
        paths.directories[0] / "rules.d/10.toml", RULE_WITH_PROOF.format(proof=proof, trust=trust)
    )
    ca = write(paths.directories[0] / "axis.pem", "")
    found = problems_of(
        paths,
        f"[cloud.sky]\nhost = 'h'\n[proof.axis]\nport = 443\nca_files = ['{ca}']\n"
        "[proof.lamp]\nport = 443\n",
    )
    about = [one for one in found if "10.toml:11: " in one]
    assert len(about) == bool(problem), found
    assert all(problem in one for one in about)


RULE_WITH_PROOF = """\
[[rule]]
name = "cameras"
match = {{ service = "_axis._tcp" }}
extract = {{ serial = "txt.mac" }}
action = "ask"
provider = "sky"
product = "a1"
device_name = "cam-{{serial}}"
window = true

proof = "{proof}"
require = {{ trust = "{trust}" }}
"""


def test_a_budget_is_for_a_cloud_that_is_configured(paths: ConfigPaths) -> None:
    budget = "\n[messages.clouds.sky]\nbytes_per_day = 1000\n"
    assert not problems_of(paths, f"[cloud.sky]\nhost = 'h'{budget}")
    (problem,) = problems_of(paths, f"[cloud.sea]\nkind = 'sky'\nhost = 'h'{budget}")
    assert "messages.clouds.sky" in problem
    assert problem.startswith("gatewayd.toml:")


@pytest.mark.parametrize("register", [True, False])
@pytest.mark.parametrize(
    "site", ["", '[site]\nname = "p"\nendpoints = ["https://192.0.2.1:2379"]\n']
)
def test_gateways_of_a_site_have_the_same_secret_of_their_own_name(
    paths: ConfigPaths, register: bool, site: str
) -> None:
    text = f"{site}[cloud.hub]\nregister = {str(register).lower()}\n"
    found = [one for one in problems_of(paths, text) if "cloud.hub.gateway" in one]
    assert len(found) == (1 if register and site else 0)
    assert all("give all gateways the same one" in one for one in found)


def test_the_proxy_of_the_site_is_that_of_each_cloud_without_its_own(paths: ConfigPaths) -> None:
    site = "[network]\nproxy = 'http://p.example:3128'\nproxy_credential = 'site'\n"
    clouds = (
        "[cloud.far]\n[cloud.list]\n"
        "[cloud.own]\nkind = 'far'\nproxy = 'http://[2001:db8::7]:80/'\n"
        "[cloud.near]\nkind = 'far'\nproxy = 'direct'\n"
    )
    found = {one.name: one.settings for one in configured(paths, site + clouds).clouds}
    assert found["far"] == OutboundSettings(proxy="http://p.example:3128", proxy_credential="site")
    assert found["own"] == OutboundSettings(proxy="http://[2001:db8::7]:80/")
    assert found["near"] == OutboundSettings(proxy="direct")


@pytest.mark.parametrize("proxy", [
    "http://user:word@p.example:3128", "https://p.example:3128", "socks5://p.example:1080",
    "p.example:3128", "http://p.example", "http://p.example:0", "http://p.example:65536",
    "http://p.example:3128/path", "http://:3128", "http://2001:db8::7:80", "http://[p.example]:x",
    "http://p. example:3128", "direct",
])  # fmt: skip
def test_what_is_no_proxy_is_refused_and_not_repeated(paths: ConfigPaths, proxy: str) -> None:
    (problem,) = problems_of(paths, f"[network]\nproxy = '{proxy}'")
    assert problem.startswith("gatewayd.toml:2: network.proxy must be http://HOST:PORT")
    assert "word" not in problem.replace("password", "")


DOOR = '{ socket = "/run/s", topics = [{ topic = "s/{name}" }] }'


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ("broker = { enabled = false }", [2]),
        ("", []),
        (f"broker = {{ enabled = false }}\ndoors.site = {DOOR}", []),
    ],
)
def test_messages_without_a_door_are_a_warning(
    paths: ConfigPaths, more: str, warned: list[int]
) -> None:
    write(paths.main, f"[messages]\nenabled = true\n{more}\n")
    found = check(paths, PLUGINS)
    assert [(one.line, one.fatal) for one in found] == [(line, False) for line in warned]


def test_a_share_is_no_more_than_what_is_kept(paths: ConfigPaths) -> None:
    (problem,) = problems_of(paths, "[messages]\nkeep = 1048576\nchild = { share = 1048577 }")
    assert "child.share" in problem


RULE = """
[[rule]]
name = "r"
match = { service = "x" }
extract = { mac = "mac" }
device_name = "c-{mac}"
action = "ask"
provider = "sky"
product = "p1"
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[cloud.sky]\nhost = 'h'\nproducts = { p1 = {} }", []),
        (
            "[cloud.sky]\nhost = 'h'\nproducts = { p2 = {} }",
            ["rules.d/1.toml:9"],
        ),
        ("", ["rules.d/1.toml:8"]),
        ("[cloud.sky]\nkind = 'list'", []),
        ("[cloud.sky]\nkind = 'list'\nproducts = ['p1']", []),
        (
            "[cloud.sky]\nkind = 'list'\nproducts = ['p2']",
            ["rules.d/1.toml:9"],
        ),
    ],
)
def test_the_check_looks_at_rules_too(paths: ConfigPaths, text: str, found: list[str]) -> None:
    write(paths.main.parent / "rules.d/1.toml", RULE)
    assert [problem.partition(": ")[0] for problem in problems_of(paths, text)] == found


HELD = RULE.replace('action = "ask"', 'action = "ask"\nsession = "holder"')
SKY = "[cloud.sky]\nkind = 'holdable'\n"


@pytest.mark.parametrize(("rule", "text", "found"), [
    (HELD, SKY, []),
    (HELD + "route = 'direct'\n", SKY, []),
    (HELD + "route = 'sub-device'\n", SKY, ["rules.d/1.toml:8"]),
    (HELD, "[cloud.sky]\nkind = 'list'\n", ["rules.d/1.toml:8"]),  # a plug-in that knows of none
    (HELD, SKY + "[credentials.units.bridge]\nchild = 'x'\nrule = 'r'\n", []),
    (HELD, SKY + "[credentials.units.'b@']\nrule = 'r'\n", []),
    (HELD, SKY + "[credentials.users.1000]\nchild = 'p1/x'\nrule = 's'\n", ["gatewayd.toml:5"]),
    (RULE, SKY + "[credentials.units.bridge]\nchild = 'x'\nrule = 'r'\n", ["gatewayd.toml:5"]),
    (HELD, SKY + "[credentials.units.bridge]\nrule = 'r'\n", ["gatewayd.toml:3"]),
    (HELD, SKY + "[credentials.units.'a.service']\nchild = 'x'\n", ["gatewayd.toml:3"]),
    (HELD, SKY + "[credentials.units.bridge]\nchild = 'a b'\n", ["gatewayd.toml:3"]),
    (HELD, SKY + "[credentials.users.1000]\nrule = 'r'\n", ["gatewayd.toml:3"]),
    (HELD, SKY + "[credentials]\nwait = 0\n", ["gatewayd.toml:4"]),
    (HELD, SKY + "[credentials.units.bridge]\npassword = 'x'\n", ["gatewayd.toml:4"]),
])  # fmt: skip
def test_what_holders_may_have_is_checked_with_its_line(
    paths: ConfigPaths, rule: str, text: str, found: list[str]
) -> None:
    write(paths.main.parent / "rules.d/1.toml", rule)
    assert [problem.partition(": ")[0] for problem in problems_of(paths, text)] == found


def test_rules_are_checked_even_if_the_configuration_is_wrong(paths: ConfigPaths) -> None:
    write(paths.main.parent / "rules.d/1.toml", "[[rule]]\nname = 'x'\n")
    assert len(problems_of(paths, "[zzz]")) == 3


def test_the_sample_shows_every_setting_and_its_default() -> None:
    assert config_sample.SAMPLE.read_text() == config_sample.sample(config_sample.ours()), (
        "run python -m tools.config_sample > etc/gatewayd/gatewayd.toml"
    )


def test_the_sample_sets_nothing() -> None:
    assert tomli.loads(config_sample.SAMPLE.read_text()) == {}


@pytest.mark.parametrize(("name", "cls"), [item for item in SECTIONS.items() if item[1]])
def test_the_sample_uncommented_is_the_default(name: str, cls: type[Any]) -> None:
    text = re.sub(r"(?m)^#(?=\S)", "", "\n".join(config_sample.table(name, cls)))
    unset = set(re.findall(r"(?m)^(\w+) =$", text))  # they have no value by default
    active = tomli.loads(re.sub(r"(?m)^\w+ =$", "", text))[name]
    for key, value in active.items():
        if isinstance(value, dict) and set(value) == {"NAME"}:  # by default, there is none
            active[key] = {}
    problems = Problems()
    made = SettingsBuilder(Document(Path("/x"), {}, {}), problems).build(cls, active, (name,))
    assert (made, problems.found) == (cls(), [])
    assert set(active) <= {one.name for one in fields(cls)} <= set(active) | unset


def test_no_cloud_declares_a_setting_that_holds_a_secret() -> None:
    plugins = config_sample.ours()
    for group in GROUPS[:2]:
        for name in plugins.names(group):
            declared = {one.name for one in fields(plugins.load(group, name).Settings)}
            assert not {one for one in declared if looks_secret(one)}, name


def test_a_word_with_a_hyphen_stays_one_word() -> None:
    assert not re.findall(r"\w\\- \w+", config_manual.manual())


def test_the_manual_page_has_each_table_once() -> None:
    headings = [line for line in config_manual.manual().splitlines() if line.startswith(".S")]
    assert ".SH SETTINGS" in headings
    assert len(set(headings)) == len(headings)


# Files in use, and which have changed.


@dataclass(frozen=True)
class FilesSettings:
    ca_file: Path | None = setting(None, "roots", file=FileUse.LATER)
    secret_credential: str = setting("", "a secret", grammar=credential_name)
    device_credentials: str = setting(
        "", "a prefix", grammar=credential_name, file=FileUse.DIRECTORY
    )


class FilesCloud:
    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = FilesSettings


def test_changed_files_are_named_with_their_setting_and_their_cloud(
    paths: ConfigPaths, tmp_path: Path
) -> None:
    roots, site_list, given = tmp_path / "roots", tmp_path / "site.list", tmp_path / "credentials"
    given.mkdir()
    for file in (roots, site_list, given / "gateway", given / "device-1"):
        file.write_text("old")
    write(
        paths.main,
        f"""
        [cloud.east]
        kind = "files"
        ca_file = "{roots}"
        secret_credential = "gateway"
        [cloud.west]
        kind = "files"
        device_credentials = "device-"
        """,
    )
    plugins = Plugins(
        [
            EntryPoint("files", f"{HERE}:FilesCloud", CLOUDS),
            EntryPoint("vault", f"{HERE}:Safe", SECRETSTORES),
        ]
    )
    files = FilesInUse(load(paths, plugins), given)
    assert files.changed([site_list]) == []
    assert files.changed([site_list]) == []
    for file in (roots, site_list, given / "gateway"):
        file.write_text("other")
    changed = files.changed([site_list])
    assert {(str(one), one.cloud) for one in changed} == {
        (f"cloud.east.ca_file ({roots})", "east"),
        (f"cloud.east.secret_credential ({given}/gateway)", "east"),
        (f"cloud.west.device_credentials ({given})", "west"),
        (f"list ({site_list})", ""),
    }
    assert files.changed([site_list]) == []


def test_so_many_changed_files_are_named_and_the_others_counted() -> None:
    many = [ChangedFile(("cloud", "x", "ca_file"), Path("/a"))] * (MAX_NAMED + 3)
    assert changed_files(many).endswith(" and 3 more")
    assert changed_files(many).count("ca_file") == MAX_NAMED


def _examples_of_messages() -> Iterator[str]:
    """Yield the examples of [messages] in the manual and in the page about it, as TOML."""
    manual = (TOP / "packaging/man/gatewayd.toml.5").read_text().replace("\\-", "-")
    page = (TOP / "docs/let-a-child-speak.md").read_text()
    blocks = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", page, re.M)
    for example in (*re.findall(r"^\.EX\n(.*?)^\.EE$", manual, re.M | re.S), *blocks):
        if "[messages" in example:
            yield re.sub(r"^ {4}", "", example, flags=re.M)


def test_there_are_examples_of_messages() -> None:
    assert len(list(_examples_of_messages())) > 2


@pytest.mark.parametrize("example", list(_examples_of_messages()))
def test_an_example_of_messages_is_valid(tmp_path: Path, example: str) -> None:
    file = tmp_path / "gatewayd.toml"
    file.write_text(example)
    assert load(ConfigPaths.of(file), Plugins.installed()).messages
