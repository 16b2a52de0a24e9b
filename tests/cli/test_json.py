"""gatewayctl --json: what every command prints is as its fields are documented."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gatewayd.ca.certificates import request
from gatewayd.ca.keys import make_key
from gatewayd.cli.main import commands_for, main
from gatewayd.cli.output.fields import FieldKind, JsonField, faults, of_interface
from gatewayd.dbus.interfaces import SERVED
from gatewayd.dbus.methods import (
    AUTHORITY_METHODS,
    BROKER_METHODS,
    MESSAGE_METHODS,
    PROVIDER_METHODS,
    SECRET_STORE_METHODS,
    SITE_METHODS,
)
from gatewayd.dbus.names import (
    AUTHORITY,
    OUTBOX,
    OWN_BROKER,
    OWN_SITE,
    PROVIDER,
    STORE,
    ObjectInterface,
    provider_path,
)
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import MessageCounts, MessagesView, ProviderView, SiteView, StoreView
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import RecordingCommands, run, served, view
from tests.support.gatewayctl import GATEWAYCTL, validate
from tools.json_manual import PAGE, page

COMMANDS = commands_for(())
BY_WORDS = {command.words: command for command in COMMANDS}
PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
CSR = request(make_key("ec-p256"))


class Everything(RecordingCommands):
    """All commands of all objects, which succeed."""

    def __getattr__(self, name: str) -> Any:
        async def any_command(*_: object) -> Any:
            return RESULTS.get(name)

        return any_command

    async def reload(self, caller: str) -> None:
        """Done."""

    async def rename(self, device: str, label: str, caller: str) -> None:
        """Done."""

    def list_users(self) -> Sequence[tuple[str, str, Sequence[str], Sequence[str]]]:
        return [("child-1a", "child", ["password"], ["child-1a"])]

    async def set_password(self, device: str, target: int, caller: str) -> None:
        await asyncio.to_thread(os.write, target, b"secret\n")

    async def add_program(
        self, name: str, devices: Sequence[str], target: int, caller: str
    ) -> None:
        await asyncio.to_thread(os.write, target, b"secret\n")


RESULTS: Mapping[str, Any] = {
    "make": PEM, "import_authority": PEM, "prove": PEM, "issue": PEM, "issue_certificate": PEM,
    "authority": PEM, "list_revoked": PEM,
    "found": "AA-BB", "harm_of": (), "owner": {
        "Id": "child-1a", "CloudId": "p/d", "Here": False, "Reason": "owned-by-another",
        "Explanation": "It is owned by gateway-b.", "Remedy": "", "Shard": 7,
        "Gateway": "gateway-b", "Token": 9,
    },
    "show": {"Present": True, "Generation": 1, "Subject": "CN=x", "Fingerprint": "aa",
             "Algorithm": "rsa-2048", "StartTimestamp": 1, "ExpiryTimestamp": 2,
             "Explanation": "", "Certificate": PEM},
}  # fmt: skip


@pytest.fixture
async def gateway(bus: PrivateBus) -> AsyncIterator[PrivateBus]:
    everything: Any = Everything("child-1a", "child-2b")
    counts = MessageCounts(1, 100, 1_700_000_000_000_000, 2, 1)
    said = MessagesView(state="ready", total=counts, children={DeviceId("child-1a"): counts})
    huawei = provider_path("huawei")
    cloud = ProviderView("huawei", "huawei", "h:8883", "ready")
    other = ObjectInterface(provider_path("alibaba"), PROVIDER)
    further = (
        ExportedObject(
            STORE, StoreView("vault", "none", "sealed", "No key."),
            SECRET_STORE_METHODS.bind(everything),
        ),
        ExportedObject(OUTBOX, said, MESSAGE_METHODS.bind(everything)),
        ExportedObject(OWN_BROKER, None, BROKER_METHODS.bind(everything)),
        ExportedObject(OWN_SITE, SiteView(), SITE_METHODS.bind(everything)),
        ExportedObject(
            ObjectInterface(huawei, PROVIDER), cloud, PROVIDER_METHODS.bind(everything), "huawei"
        ),
        ExportedObject(other, ProviderView("alibaba", "alibaba", "", "idle")),
        ExportedObject(
            ObjectInterface(huawei, AUTHORITY), None, AUTHORITY_METHODS.bind(everything), "huawei"
        ),
    )  # fmt: skip
    waiting = view("child-2b", state="admitted", next_attempt=1_700_000_000_000_000)
    online = view("child-1a", state="online", name="Meter \x1b[31m ü")
    async with served(bus, everything, online, waiting, further=further, gather=0.02):
        yield bus


WORDS: Mapping[str, Sequence[str]] = {
    "show": ("child-1",), "explain": ("child-1",), "approve": ("child-1", "--wait", "5"),
    "reject": ("child-1",), "retry": ("child-1",), "reregister": ("child-1a", "child-1a"),
    "rename": ("child-1", "Dock"), "forget": ("child-1",), "permit-join": ("60",),
    "repin": ("child-1",), "split": ("child-1", "child-2"), "merge": ("child-1", "child-2"),
    "move": ("child-1", "--to", "alibaba"),
    "discover": ("0",), "rules suggest": ("child-1",), "cloud test": ("huawei",),
    "rules check": ("rules.toml",), "rules test": ("sightings", "rules.toml"),
    "door password": ("child-1",), "door program": ("logger", "--children", "child-1a"),
    "door certificate": ("child-1", "--csr", "csr.pem"), "door revoke": ("logger",),
    "store export": ("--output", "export"), "ca import": ("ca.pem",),
    "huawei ca prove": ("1234",), "ca issue": ("--request", "csr.pem"),
    "ca renew": ("child-1",), "certificate remove": ("--id", "child-1"),
    "huawei template lint": ("template.json",),
    "huawei template new": ("--product", "p1", "--node-id", "common_name"),
    "site owner": ("child-1a",), "site join": ("AA-BB",),
    "site accept": ("gateway-b", "AA-BB"), "site remove": ("gateway-b", "--yes"),
    "store add-recovery": ("public.pem",), "top": ("--once",),
}  # fmt: skip
"""The arguments of commands that need any, in a directory with these files."""
OFFLINE: Mapping[str, Sequence[str]] = {
    "vault init": ("--no-recovery",),
    "vault make-key": (),
    "vault status": (),
    "vault rotate": (),
    "vault reseal": ("development-file",),
    "vault add-recovery": (),
    "vault recover": ("--recovery-key", "words"),
    "vault remove-slot": ("no-such-slot",),
    "vault export": ("--output", "export"),
    "vault accept": (),
    "vault accept-machine": (),
    "vault import": ("export.old", "--recovery-key", "words"),
    "vault boot-policy": ("--output", "policy"),
    "preflight": (),
    "setup": ("--answers", "answers.toml", "--dry-run", "--no-preflight"),
}
"""Those that take --config, and need no daemon, with their arguments."""
ELSEWHERE = {
    "watch": "tests/cli/test_main.py",
    "credential": "tests/cli/test_credential.py",
    "certificate import": "tests/cli/test_certificate.py",
    "broker-config": "tests/cloud/mqtt_broker/test_document.py",
    "metrics": "tests/cli/watching/test_metrics.py",
    "huawei template preview": "tests/cli/huawei/test_huawei_template.py",
    **{
        words: f"tests/cli/console/test_console_{words.split()[1]}.py"
        for words in BY_WORDS
        if words.startswith("console ")
    },
}
"""Those that are validated by a test of their own, and where."""
FILES: Mapping[str, str] = {
    "rules.toml": '[[rule]]\nname = "phones"\nmatch = { service = "_phone._tcp" }\n'
    'action = "ignore"\n',
    "sightings": '{"source": "mdns", "attributes": {"service": "_phone._tcp"}}\n',
    "csr.pem": CSR.decode(),
    "ca.pem": PEM,
    "template.json": "{}",
    "public.pem": "no key",
    "gatewayd.toml": '[gateway]\nstate_directory = "state"\n'
    '[secretstore.vault]\nkey = "development-file"\n',
    "answers.toml": 'interface = "lo"\ncloud = "alibaba"\nendpoint = "cn-shanghai"\n'
    'product = "a1Xy9Zk3Q7f"\nsecret = "x"\nadmission = "approval"\n',
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


COVERED = [c.words for c in COMMANDS if c.words not in {*OFFLINE, *ELSEWHERE}]


def test_every_command_has_a_validation_and_fields_of_its_own() -> None:
    assert {*OFFLINE, *ELSEWHERE} <= BY_WORDS.keys()
    assert [words for words, command in BY_WORDS.items() if not command.fields] == []
    top = Path(__file__).parents[2]
    assert all("validate(" in (top / where).read_text() for where in set(ELSEWHERE.values()))


@pytest.mark.integration
@pytest.mark.parametrize("words", COVERED)
async def test_a_command_prints_what_is_documented(
    gateway: PrivateBus, files: Path, words: str
) -> None:
    command = (*GATEWAYCTL, "--bus", gateway.address, *words.split(), *WORDS.get(words, ()))
    status, printed = await run(*command, "--json")
    validate(printed, BY_WORDS[words].fields, status)
    failing = ("huawei template lint", "store add-recovery")
    assert (status == 0) == (words not in failing), printed


@pytest.mark.integration
async def test_errors_are_objects_too(gateway: PrivateBus) -> None:
    ctl = (*GATEWAYCTL, "--bus", gateway.address, "--json")
    status, printed = await run(*ctl, "show", "child-9")
    assert (status, json.loads(printed)) == (
        1, {"Error": "org.gatewayd1.Error.NoSuchDevice", "Message": "No such device"},
    )  # fmt: skip
    status, printed = await run(*ctl, "list", "--state", "green")
    assert status == 2
    assert json.loads(printed)["Error"] == "WrongUsage"
    status, printed = await run(*GATEWAYCTL, "--bus", "unix:path=/nonexistent", "list", "--json")
    assert status == 1
    validate(printed, (), status)


FAILING = ("vault remove-slot", "vault boot-policy", "preflight")
"""Those whose slot, TPM and cloud are not there."""


@pytest.mark.parametrize("words", OFFLINE)
def test_a_command_without_a_daemon_prints_what_is_documented(
    files: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    config = files / "gatewayd.toml"
    config.write_text(config.read_text().replace('"state"', f'"{files}/state"'))
    common = ("--config", str(config), "--json")
    if words.startswith("vault "):
        assert main(["vault", "init", "--no-recovery", *common], {}) == 0
        capsys.readouterr()
        assert main(["vault", "add-recovery", *common], {}) == 0
        (files / "words").write_text(json.loads(capsys.readouterr().out)["Words"])
        assert main(["vault", "export", "--output", "export.old", *common], {}) == 0
        capsys.readouterr()
    status = main([*words.split(), *OFFLINE[words], *common], {})
    printed = capsys.readouterr().out
    validate(printed, BY_WORDS[words].fields, status)
    as_root = words != "setup" or os.geteuid() == 0
    assert (status == 0) == (words not in FAILING and as_root), printed


@pytest.mark.parametrize(("words", "told"), [
    (("vault", "init"), "--no-recovery"),
    (("vault", "recover"), "The words are missing"),
    (("vault", "rotate", "--recovery-key", "locked.pem"), "--passphrase-file"),
    (("ca", "import", "locked.pem"), "--passphrase-file"),
])  # fmt: skip
def test_nothing_is_asked(tmp_path: Path, words: Sequence[str], told: str) -> None:
    config = tmp_path / "gatewayd.toml"
    config.write_text(f'[gateway]\nstate_directory = "{tmp_path}/state"\n')
    make = "openssl genpkey -algorithm X25519 -aes256 -pass pass:sesame -out locked.pem"
    subprocess.run(make.split(), cwd=tmp_path, check=True, capture_output=True)
    more = () if words[0] == "ca" else ("--config", str(config))
    ours, theirs = os.openpty()
    try:
        ran = subprocess.run(
            [*GATEWAYCTL, "--bus", "unix:path=/nonexistent", *words, *more, "--json"],
            cwd=tmp_path, stdin=theirs, stdout=subprocess.PIPE, start_new_session=True,
            text=True, timeout=240, check=False,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    assert ran.returncode == 1
    assert told in json.loads(ran.stdout)["Message"]


def test_the_manual_is_made_from_the_tables() -> None:
    assert PAGE.read_text() == page(), (
        "run python -m tools.json_manual > packaging/man/gatewayctl-json.5"
    )


def test_faults_are_found() -> None:
    fields = (
        JsonField("A", FieldKind.TEXT, ""),
        JsonField("B", FieldKind.NUMBER, "", optional=True),
    )
    assert list(faults({"A": "x"}, fields)) == []
    assert list(faults({"A": 1, "C": 2}, fields)) == ["C is not documented", "A is no text"]
    assert list(faults({"B": True}, fields)) == ["A is missing", "B is no number"]


@pytest.mark.parametrize("interface", SERVED)
def test_every_property_has_a_kind(interface: str) -> None:
    assert all(one.kind in FieldKind for one in of_interface(interface))
