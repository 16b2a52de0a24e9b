"""The key of the vault is made once, at the first start, and in the place of no other."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.cli.output import PROTECTION_TEXTS
from gatewayd.cli.vault.first_key import KeyFacts, facts_of, make_first_key, why_not
from gatewayd.cli.vault.init import init
from gatewayd.cli.vault.offline import OfflineVault
from gatewayd.errors import GatewayError, StoreUnavailable
from gatewayd.secretstore.keyslots.factory import VaultSettings
from gatewayd.secretstore.keyslots.slots import SOCKET
from gatewayd.secretstore.store import Protection
from gatewayd.secretstore.vault.vault import Vault
from tests.cli.test_vault_init import NAME, credentials, fill, filled, unsealed

FILE = Path("/etc/credstore.encrypted/vault.key")
NEW = KeyFacts("credential", NAME, FILE, exists=False, passed_by=None, vault_has_key=False)
DIRECTORY = Path("/var/lib/gatewayd")


@pytest.fixture
def vault(tmp_path: Path) -> OfflineVault:
    return OfflineVault(VaultSettings(), tmp_path / "state", credentials(tmp_path, "host"), {})


def pass_credential(vault: OfflineVault, line: str) -> Path:
    """Have a drop-in pass it to the service."""
    file = vault.systemd.units[0] / "gatewayd.service.d/site.conf"
    file.parent.mkdir(parents=True)
    file.write_text(f"[Service]\n{line}\n")
    return file


def make_empty(vault: OfflineVault) -> None:
    """Make a vault as a daemon does that has no key: it has tables, and nothing in them."""
    with vault.locked(new=True):
        Vault(VaultSettings(), vault.directory).close()
    assert vault.file.exists()


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        (NEW, ""),
        (replace(NEW, slot="tpm2"), "tpm2"),
        (replace(NEW, exists=True), str(FILE)),
        (replace(NEW, passed_by=Path("/etc/site.conf")), "/etc/site.conf"),
        (replace(NEW, name="other"), "gatewayctl vault init"),
        (replace(NEW, exists=True, vault_has_key=True), str(FILE)),
        (replace(NEW, passed_by=Path("/etc/site.conf"), vault_has_key=True), "/etc/site.conf"),
    ],
)
def test_a_key_is_made_only_where_there_is_none(facts: KeyFacts, named: str) -> None:
    said = why_not(facts, DIRECTORY)
    assert (bool(said), named in said) == (bool(named), True)


def test_a_vault_without_its_key_is_refused_and_the_way_back_named() -> None:
    with pytest.raises(GatewayError) as caught:
        why_not(replace(NEW, vault_has_key=True), DIRECTORY)
    for word in (str(DIRECTORY), str(FILE), "gatewayctl vault recover"):
        assert word in str(caught.value)


def test_the_key_of_the_first_start_opens_the_vault(vault: OfflineVault) -> None:
    said = " ".join(make_first_key(vault))
    file = vault.systemd.file(NAME)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(unsealed(vault)) == 32
    assert str(file) in said
    assert PROTECTION_TEXTS[Protection.CREDENTIAL] in said
    assert not vault.directory.exists()
    assert [path.name for path in file.parent.iterdir()] == [NAME]
    init(vault, "", None)
    fill(vault)
    key = file.read_bytes()
    assert str(file) in " ".join(make_first_key(vault))
    assert file.read_bytes() == key
    assert filled(vault)


@pytest.mark.parametrize(("machine", "how"), [("host", b"host "), ("with-tpm", b"host+tpm2 ")])
def test_a_tpm_seals_the_key_where_there_is_one(tmp_path: Path, machine: str, how: bytes) -> None:
    systemd = credentials(tmp_path, machine)
    list(make_first_key(OfflineVault(VaultSettings(), tmp_path / "state", systemd, {})))
    assert systemd.file(NAME).read_bytes().startswith(how)


def test_two_machines_make_two_keys(tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        systemd = credentials(tmp_path / name, "host")
        vault = OfflineVault(VaultSettings(), tmp_path / name / "state", systemd, {})
        list(make_first_key(vault))
        keys.add(unsealed(vault))
    assert len(keys) == 2


def test_a_vault_that_was_never_opened_gets_its_key(vault: OfflineVault) -> None:
    """An earlier version ran sealed until a key was made by hand, and left an empty vault."""
    make_empty(vault)
    assert "Made a key" in " ".join(make_first_key(vault))


def test_a_vault_that_has_lost_its_key_gets_no_other(vault: OfflineVault) -> None:
    init(vault, "", None)
    fill(vault)
    vault.systemd.file(NAME).unlink()
    with pytest.raises(GatewayError, match="is missing"):
        list(make_first_key(vault))
    assert not vault.systemd.exists(NAME)


def test_beside_a_daemon_nothing_is_made(vault: OfflineVault) -> None:
    make_empty(vault)
    with vault.locked(), pytest.raises(StoreUnavailable):
        list(make_first_key(vault))
    assert not vault.systemd.exists(NAME)


@pytest.mark.parametrize(
    "line",
    [
        "LoadCredential=vault.key:/etc/site/key",
        "LoadCredentialEncrypted=vault.key:/etc/site/key",
        "LoadCredential=vault.key",
        "SetCredential=vault.key:xyz",
        "SetCredentialEncrypted=vault.key: Whxqht",
        "ImportCredential=vault.*",
    ],
)
def test_the_key_of_a_site_is_respected(vault: OfflineVault, line: str) -> None:
    file = pass_credential(vault, line)
    assert facts_of(vault).passed_by == file
    assert str(file) in " ".join(make_first_key(vault))
    assert not vault.systemd.exists(NAME)


@pytest.mark.parametrize(
    "line",
    [
        f"LoadCredential=vault.key:{SOCKET}",
        "LoadCredential=product:/etc/site/key",
        "#LoadCredential=vault.key:/etc/site/key",
        "LoadCredential=vault.key.encrypted:/etc/site/key",
        "ImportCredential=product.*",
    ],
)
def test_other_credentials_are_no_key(vault: OfflineVault, line: str) -> None:
    pass_credential(vault, line)
    assert facts_of(vault).passed_by is None


def test_our_own_file_is_no_key_of_the_site(vault: OfflineVault) -> None:
    pass_credential(vault, f"LoadCredentialEncrypted=vault.key:{vault.systemd.file(NAME)}")
    assert facts_of(vault).passed_by is None


def test_a_key_that_came_meanwhile_stays(vault: OfflineVault) -> None:
    vault.systemd.create(NAME, b"first")
    with pytest.raises(GatewayError, match="File exists"):
        vault.systemd.create(NAME, b"second")
    assert vault.systemd.file(NAME).read_bytes() == b"first"
    assert [path.name for path in vault.systemd.directory.iterdir()] == [NAME]
