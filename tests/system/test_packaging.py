"""What is installed agrees with itself: the unit, the bus, the user, the package."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tomli

from gatewayd import __version__
from gatewayd.__main__ import EX_CONFIG
from gatewayd.admission.policy.naming import FILTERS
from gatewayd.admission.policy.patterns import MATCH_KEYS
from gatewayd.admission.policy.rules import RuleTable
from gatewayd.cli.watching.metrics import FILE
from gatewayd.credentials.notices import CHANGED, DIRECTORY_VARIABLE
from gatewayd.credentials.service import OF_SYSTEMD, OF_USERS
from gatewayd.dbus.names import NAME
from gatewayd.discovery.helper.connect import MODULE, SOCKET_VARIABLE
from gatewayd.discovery.raw_link.profinet import SOCKET as LINK_SOCKET
from gatewayd.messages.broker import files
from gatewayd.messages.broker.settings import BrokerPlaces
from gatewayd.messages.outbox import file as outbox
from gatewayd.monitoring.causes import Cause
from gatewayd.monitoring.metrics_file import DIRECTORY_VARIABLE as METRICS_VARIABLE
from gatewayd.monitoring.notices import DIRECTORY_VARIABLE as NOTICES_VARIABLE
from gatewayd.monitoring.notices import NEW, STANDING
from gatewayd.secretstore.keyring import index
from gatewayd.secretstore.keyslots.slots import SOCKET
from gatewayd.secretstore.vault import schema
from gatewayd.secretstore.vault.vault import VaultSettings
from gatewayd.storage import records
from tools import completion, config_manual

TOP = Path(__file__).parents[2]


class _Joined(dict[str, Any]):
    """The settings of a section: lines that repeat one add to it, as systemd has it."""

    def __setitem__(self, key: str, value: Any) -> None:
        before = self.get(key)
        joined = isinstance(value, list) and isinstance(before, list)
        super().__setitem__(key, [*before, *value] if joined and before else value)


def _ini(path: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(dict_type=_Joined, strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # as its manual says
    parser.read_string((TOP / path).read_text())
    return parser


UNIT = _ini("systemd/gatewayd.service")
ACTIVATION = _ini(f"packaging/dbus/{NAME}.service")["D-BUS Service"]


def test_the_package_has_the_version_of_the_daemon() -> None:
    first = (TOP / "packaging/debian/changelog").read_text().splitlines()[0]
    assert first.startswith(f"gatewayd ({__version__}) ")


def test_the_unit_runs_a_command_that_is_installed() -> None:
    project = tomli.loads((TOP / "pyproject.toml").read_text())["project"]
    path = Path(UNIT["Service"]["ExecStart"])
    assert path.parent == Path("/usr/bin")
    assert path.name in project["scripts"]


def test_the_unit_is_not_started_again_with_a_wrong_configuration() -> None:
    assert UNIT["Service"]["RestartPreventExitStatus"] == str(EX_CONFIG)


def test_the_bus_starts_the_unit() -> None:
    assert ACTIVATION["Name"] == UNIT["Service"]["BusName"] == NAME
    assert ACTIVATION["SystemdService"] == UNIT["Install"]["Alias"]


def test_the_user_of_the_unit_is_made_and_may_own_the_name() -> None:
    user = UNIT["Service"]["User"]
    assert re.search(rf"^u {user} ", (TOP / "systemd/gatewayd.sysusers").read_text(), re.M)
    policy = (TOP / f"packaging/dbus/{NAME}.conf").read_text()
    assert re.search(rf'<policy user="{user}">\s*<allow own="{NAME}"/>', policy)


def test_the_unit_asks_the_opener_for_the_key_of_the_vault() -> None:
    socket = _ini("systemd/gatewayd-vault-key.socket")["Socket"]
    assert socket["ListenStream"] == str(SOCKET)
    assert socket["SocketUser"] == UNIT["Service"]["User"]  # it asks again while there is none
    assert socket["SocketMode"] == "0600"
    passed = f"\nLoadCredential={VaultSettings().credential}:{SOCKET}\n"
    assert passed in (TOP / "systemd/gatewayd.service").read_text()
    assert "gatewayd-vault-key.socket" in UNIT["Unit"]["Wants"]
    keygen = _ini("systemd/gatewayd-vault-keygen.service")
    assert "gatewayd-vault-keygen.service" in UNIT["Unit"]["Wants"].split()
    assert "gatewayd-vault-keygen.service" in UNIT["Unit"]["After"].split()
    opener = _ini("systemd/gatewayd-vault-key@.service")
    path = opener["Unit"]["ConditionPathExists"]
    assert opener["Service"]["ExecStart"].split()[1:] == [
        f"--name={VaultSettings().credential}", "decrypt", path, "-",
    ]  # fmt: skip
    assert keygen["Unit"]["ConditionPathExists"] == f"!{path}"
    assert keygen["Service"]["ExecStart"] == "gatewayctl vault make-key"
    assert (
        f"d {Path(path).parent} 0700 root root -"
        in (TOP / "systemd/gatewayd.tmpfiles").read_text().splitlines()
    )


def test_the_unit_reaches_discovery_by_its_socket() -> None:
    socket = _ini("systemd/gatewayd-discovery.socket")
    assert f"{SOCKET_VARIABLE}={socket['Socket']['ListenStream']}" in UNIT["Service"]["Environment"]
    assert socket["Socket"]["SocketUser"] == UNIT["Service"]["User"]
    assert "gatewayd-discovery.socket" in UNIT["Unit"]["Wants"]
    helper = _ini("systemd/gatewayd-discovery@.service")["Service"]
    assert helper["ExecStart"].split()[-2:] == ["-m", MODULE]
    assert "LoadCredential" not in helper
    assert "StateDirectory" not in helper


def test_the_discovery_helper_alone_reaches_the_link_helper() -> None:
    socket = _ini("systemd/gatewayd-link.socket")
    assert socket["Socket"]["ListenSequentialPacket"] == LINK_SOCKET
    assert socket["Socket"]["SocketMode"] == "0660"
    assert "SocketUser" not in socket["Socket"]  # root
    group = socket["Socket"]["SocketGroup"]
    assert _ini("systemd/gatewayd-discovery@.service")["Service"]["Group"] == group
    assert f"g {group} -" in (TOP / "systemd/gatewayd.sysusers").read_text().splitlines()
    named = [path.name for path in (TOP / "systemd").rglob("*.*") if group in path.read_text()]
    assert sorted(named) == [
        "gatewayd-discovery@.service", "gatewayd-link.socket", "gatewayd.sysusers",
    ]  # fmt: skip
    units = [path.stem.rstrip("@") for path in (TOP / "systemd").glob("*@.service")]
    assert group not in units  # of which a dynamic user has the name
    assert UNIT["Unit"]["Wants"].split().count("gatewayd-link.socket") == 1
    link = _ini("systemd/gatewayd-link@.service")["Service"]
    assert link["CapabilityBoundingSet"] == link["AmbientCapabilities"] == "CAP_NET_RAW"
    assert link["RestrictAddressFamilies"] == "AF_PACKET"


def test_the_broker_and_the_daemon_meet_in_the_same_places() -> None:
    places, access = BrokerPlaces.of({}), _ini("systemd/gatewayd-broker-access.path")
    assert access["Path"]["PathChanged"] == str(places.access / files.PASSWORDS)
    assert access["Unit"]["PartOf"] == "gatewayd.service"
    assert "gatewayd-broker-access.path" in UNIT["Unit"]["Wants"]
    assert f"-{places.access}" in UNIT["Service"]["ReadWritePaths"].split()
    broker = (TOP / "systemd/gatewayd-broker.service").read_text()
    for name in (files.PASSWORDS, files.ACCESS, files.LISTENERS):
        assert f"{places.access / name}" in broker
    assert f"/{files.LIMIT}:{places.access / files.LIMIT}" in (
        TOP / "systemd/gatewayd-broker-limit.service"
    ).read_text().replace("LoadCredential=", "/")
    configuration = (TOP / "packaging/mosquitto/broker.conf").read_text()
    assert f"listener 0 {places.socket}\n" in configuration
    group = _ini("systemd/gatewayd-broker.service")["Service"]["Group"]
    assert UNIT["Service"]["SupplementaryGroups"] == group
    user = _ini("systemd/gatewayd-broker.service")["Service"]["User"]
    made = (TOP / "systemd/gatewayd.tmpfiles").read_text().splitlines()
    assert f"d {places.access} 2750 gatewayd {user} -" in made


def test_metrics_are_written_where_everyone_may_read_them() -> None:
    assert f"{METRICS_VARIABLE}={FILE.parent}" in UNIT["Service"]["Environment"].split()
    assert f"-{FILE.parent}" in UNIT["Service"]["ReadWritePaths"].split()
    made = (TOP / "systemd/gatewayd.tmpfiles").read_text().splitlines()
    assert f"d {FILE.parent} 0755 gatewayd gatewayd -" in made


def test_notices_are_seen_where_they_are_written() -> None:
    (directory,) = re.findall(rf"{NOTICES_VARIABLE}=(\S+)", UNIT["Service"]["Environment"])
    assert f"-{directory}" in UNIT["Service"]["ReadWritePaths"].split()
    path = _ini("systemd/gatewayd-notices.path")
    assert path["Path"]["DirectoryNotEmpty"] == f"{directory}/{NEW}"
    starter = _ini("systemd/gatewayd-notices.service")["Service"]
    words = re.findall(r"for cause in ([a-z ]+);", starter["ExecStart"])[0].split()
    assert words == list(Cause)
    assert starter["ReadWritePaths"] == f"{directory}/{NEW}"
    made = (TOP / "systemd/gatewayd.tmpfiles").read_text().splitlines()
    assert f"d {directory}/{NEW} 0775 gatewayd root -" in made
    assert f"d {directory}/{STANDING} 0755 gatewayd gatewayd -" in made
    for example in (TOP / "systemd/examples").glob("notify-*.service"):
        assert f"{directory}/{STANDING}/%i" in example.read_text()


def test_units_and_the_daemon_meet_at_the_credentials() -> None:
    of_systemd = _ini("systemd/gatewayd-credentials.socket")
    of_user = _ini("systemd/gatewayd-credentials@.socket")
    assert of_systemd["Socket"]["FileDescriptorName"] == OF_SYSTEMD
    assert of_user["Socket"]["FileDescriptorName"] == f"{OF_USERS}%i"
    assert of_systemd["Socket"]["SocketMode"] == of_user["Socket"]["SocketMode"] == "0600"
    for unit in (of_systemd, of_user):
        assert unit["Unit"]["PartOf"] == unit["Socket"]["Service"] == "gatewayd.service"
    assert "gatewayd-credentials.socket" in UNIT["Unit"]["Wants"]
    directory = re.findall(rf"{DIRECTORY_VARIABLE}=(\S+)", UNIT["Service"]["Environment"])[0]
    assert f"-{directory}" in UNIT["Service"]["ReadWritePaths"].split()
    notice = _ini("systemd/gatewayd-credential@.path")["Path"]["PathChanged"]
    assert notice == f"{directory}/{CHANGED}/%i"
    made = (TOP / "systemd/gatewayd.tmpfiles").read_text().splitlines()
    assert f"d {directory}/{CHANGED} 0755 gatewayd gatewayd -" in made
    found = (TOP / "systemd/examples").glob("*.service")
    examples = [one for one in found if "/run/gatewayd/credentials" in one.read_text()]
    assert examples
    for example in examples:
        text = example.read_text()
        assert f"LoadCredential=child.json:{of_systemd['Socket']['ListenStream']}\n" in text
        assert "Wants=gatewayd-credential@%N.path\n" in text


def test_the_package_knows_the_newest_files_that_the_daemon_reads() -> None:
    script = (TOP / "packaging/debian/gatewayd.preinst").read_text()
    assert f"\nstate={records.VERSION}\n" in script
    assert f"\nvault={schema.VERSION}\n" in script
    assert f"\nkeyring={index.VERSION}\n" in script
    assert f"\nmessages={outbox.VERSION}\n" in script


@pytest.mark.parametrize("name", list(completion.parsers()))
def test_the_shell_completes_every_command(name: str) -> None:
    kept = (completion.DIRECTORY / name).read_text()
    assert kept == completion.completion(name, completion.parsers()[name]), (
        "run python -m tools.completion"
    )


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gatewayctl permi", "permit-join"),
        ("gatewayctl list --sta", "--state"),
        ("gatewayctl --bus list list --state onli", "online"),
        ("gatewayctl rules ch", "check"),
        ("gatewayd --check-", "--check-config"),
    ],
)
def test_what_is_typed_is_completed(typed: str, offered: str) -> None:
    name = typed.partition(" ")[0]
    script = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); "_$1"; echo "${COMPREPLY[*]}"'
    command = ["bash", "-c", script, str(completion.DIRECTORY / name), *typed.split()]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == offered
    assert ran.stderr == ""


@pytest.mark.parametrize("name", list(completion.parsers()))
def test_zsh_completes_every_command(name: str) -> None:
    kept = (completion.ZSH_DIRECTORY / f"_{name}").read_text()
    assert kept == completion.zsh_completion(name, completion.parsers()[name]), (
        "run python -m tools.completion"
    )


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gatewayctl ", "permit-join:open the join window"),
        ("gatewayctl list ", "--state:show only devices in this state"),
        ("gatewayctl --bus list list --state ", "online"),
        ("gatewayctl rules ", "suggest:"),
        ("gatewayctl vault export --output ", "files"),
        ("gatewayd ", "--check-config:"),
    ],
)
def test_what_is_typed_is_completed_in_zsh(typed: str, offered: str) -> None:
    name, *words = typed.split(" ")
    script = """
        _describe() { print -l -- "${(P@)2}" }
        _files() { print files }
        file=$1; shift
        words=("$@"); CURRENT=$#; complete() { source $file }; complete
    """
    file = completion.ZSH_DIRECTORY / f"_{name}"
    command = ["zsh", "-f", "-c", script, "zsh", str(file), name, *words]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    assert offered in ran.stdout
    assert ran.stderr == ""


def test_the_manual_tells_every_setting() -> None:
    assert config_manual.PAGE.read_text() == config_manual.manual(), (
        "run python -m tools.config_manual > packaging/man/gatewayd.toml.5"
    )


def test_the_manual_tells_every_key_of_a_rule() -> None:
    page = (TOP / "packaging/man/gatewayd-rules.5").read_text()
    for word in {*RuleTable.__dataclass_fields__, *MATCH_KEYS, *FILTERS}:
        assert re.search(rf"\b{re.escape(word)}\b", page), word


@pytest.mark.parametrize("page", sorted((TOP / "packaging/man").iterdir()), ids=lambda p: p.name)
def test_every_page_is_installed_and_refers_to_pages_of_ours_that_exist(page: Path) -> None:
    lists = (TOP / "packaging/debian").glob("*.manpages")
    assert any(f"packaging/man/{page.name}" in text.read_text().split() for text in lists)
    ours = r"^\.BR ((?:org\.)?gatewayd[\w.\\-]*|gatewayctl) \((\d)\)"
    named = re.findall(ours, page.read_text(), re.M)
    for name, section in named:
        assert (page.parent / f"{name.replace(chr(92), '')}.{section}").exists(), name
