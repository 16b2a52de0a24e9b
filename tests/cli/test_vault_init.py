"""A vault and its key are created: completely, once, and never over another."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gatewayd.cli.systemd_creds import SystemdCredentials, credential_drop_in, tpm_drop_in
from gatewayd.cli.vault.init import NEXT, init, reseal
from gatewayd.cli.vault.offline import OfflineVault
from gatewayd.errors import ConfigError, GatewayError, StoreSealed
from gatewayd.secretstore.keyslots.factory import VaultSettings
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.store import Protection, StoreState
from gatewayd.secretstore.vault import admin
from gatewayd.testing.contracts.secretstore import REF, keep
from tests.support import systemd_creds
from tests.support.emulated_tpm import EmulatedTpm
from tests.support.killed_process import completes_before_kill
from tests.support.pem_keys import private_pem, public_pem

PAIR = X25519PrivateKey.generate()
NOBODY = 65534
NAME = "vault.key"


def credentials(directory: Path, what: str) -> SystemdCredentials:
    """Return those of a machine.  what: tells machines apart; with "tpm" in it, it has a TPM."""
    (directory / what).write_text(what)
    units = (directory / "etc", directory / "lib")
    program = (sys.executable, str(Path(systemd_creds.__file__)), str(directory / what))
    return SystemdCredentials(directory / "credstore", units, program)


@pytest.fixture
def vault(tmp_path: Path) -> OfflineVault:
    return OfflineVault(VaultSettings(), tmp_path / "state", credentials(tmp_path, "with-tpm"), {})


def drop_in(vault: OfflineVault) -> Path:
    return vault.systemd.units[0] / "gatewayd.service.d/10-vault.conf"


def unsealed(vault: OfflineVault) -> bytes:
    return vault.systemd.decrypt(NAME)


def fill(vault: OfflineVault) -> None:
    """Put a secret into it."""
    with vault.locked(), vault.opened() as opened:
        keep(opened, REF, b"x")


def filled(vault: OfflineVault) -> bool:
    with vault.locked(), vault.opened() as opened:
        return opened.get(REF).reveal() == b"x"


def test_the_key_is_encrypted_and_passed_to_the_service(vault: OfflineVault) -> None:
    done, report = init(vault, "tpm2", public_pem(PAIR))
    assert (report.state, report.protection) == (StoreState.UNSEALED, Protection.CREDENTIAL)
    assert report.slots == (RecoveryKey(private_pem(PAIR)).kind, "systemd-credential")
    file = vault.systemd.file(NAME)
    assert len(unsealed(vault)) == 32
    assert unsealed(vault) not in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert f"\nLoadCredentialEncrypted={NAME}:{file}\n" in drop_in(vault).read_text()
    assert str(drop_in(vault)) in "".join(done)
    fill(vault)
    assert filled(vault)


def test_once_made_it_stays(vault: OfflineVault) -> None:
    init(vault, "tpm2", None)
    fill(vault)
    key, sealed = unsealed(vault), vault.systemd.file(NAME).read_bytes()
    for pem in (None, public_pem(PAIR), public_pem(PAIR)):
        done, report = init(vault, "tpm2", pem)
        assert "stays as it is" in "".join(done)
        assert report.secrets == 1
    assert len(report.slots) == 2
    assert (unsealed(vault), vault.systemd.file(NAME).read_bytes()) == (key, sealed)
    assert filled(vault)


def test_what_was_cut_off_goes_on_with_the_same_key(vault: OfflineVault) -> None:
    key = bytes(range(32))
    vault.systemd.write(NAME, vault.systemd.encrypt(NAME, key, "tpm2"))
    assert init(vault, "", None)[1].generation == 1
    assert unsealed(vault) == key
    drop_in(vault).unlink()
    init(vault, "", None)
    assert drop_in(vault).exists()


@pytest.mark.integration
def test_killed_anywhere_it_is_made_by_the_next_try(vault: OfflineVault) -> None:
    place, step, done = vault.directory.parent, 0, False
    while not done:
        done = completes_before_kill(step, lambda: init(vault, "tpm2", public_pem(PAIR)), place)
        key = unsealed(vault) if vault.systemd.exists(NAME) else None
        report = init(vault, "tpm2", public_pem(PAIR))[1]
        assert (report.state, len(report.slots), drop_in(vault).exists()) == (
            StoreState.UNSEALED,
            2,
            True,
        )
        assert key in (None, unsealed(vault))
        for made in ("state", "credstore", "etc"):
            shutil.rmtree(place / made)
        step += 1
    assert step > 20


@pytest.mark.integration
def test_killed_anywhere_a_vault_that_is_resealed_opens(
    vault: OfflineVault, tmp_path: Path
) -> None:
    init(vault, "tpm2", public_pem(PAIR))
    fill(vault)
    place, step, done = vault.directory.parent, 0, False
    while not done:
        done = completes_before_kill(step, lambda: reseal(vault, "credential", "host"), place)
        assert filled(vault)
        step += 1
    assert step > 10
    assert vault.systemd.file(NAME).read_bytes().startswith(b"host ")


def test_a_vault_whose_key_is_gone_gets_no_other(vault: OfflineVault) -> None:
    init(vault, "tpm2", None)
    fill(vault)
    vault.systemd.replace(NAME + ".away", NAME)
    with pytest.raises(GatewayError, match="vault recover"):
        init(vault, "tpm2", None)
    assert not vault.systemd.exists(NAME)
    vault.systemd.replace(NAME, NAME + ".away")
    assert filled(vault)


def test_what_contradicts_the_configuration_is_refused(vault: OfflineVault) -> None:
    with pytest.raises(GatewayError, match='key = "tpm2"'):
        init(vault, "tpm2-in-process", None)
    assert not vault.directory.exists()
    assert not vault.systemd.directory.exists()


def test_a_service_that_loads_the_key_gets_no_drop_in(vault: OfflineVault) -> None:
    unit = vault.systemd.units[1] / "gatewayd.service"
    unit.parent.mkdir()
    unit.write_text("[Service]\nLoadCredential=vault.key:/run/gatewayd-vault-key.socket\n")
    init(vault, "tpm2", None)
    assert not drop_in(vault).exists()


@pytest.mark.root
def test_what_root_makes_belongs_to_the_service(vault: OfflineVault) -> None:
    vault.directory.mkdir(mode=0o700)
    os.chown(vault.directory, NOBODY, NOBODY)
    init(vault, "tpm2", None)
    fill(vault)
    owners = {(one.name, one.stat().st_uid) for one in vault.directory.iterdir()}
    assert owners == {("vault.db", NOBODY), ("lock", NOBODY)}


def test_a_program_that_fails_is_quoted(vault: OfflineVault) -> None:
    for program, said in ((("/no/such",), "cannot be run"), (("false",), "false failed")):
        other = replace(vault, systemd=replace(vault.systemd, program=program))
        with pytest.raises(GatewayError, match=said):
            init(other, "tpm2", None)
        assert not other.systemd.exists(NAME)


def test_a_tpm_that_cannot_be_used_is_named(vault: OfflineVault) -> None:
    """Not every version of systemd-creds says that this is what it complains of."""
    other = replace(vault, systemd=replace(vault.systemd, program=("false",)))
    with pytest.raises(GatewayError, match=r"TPM.*false failed.*--protect host"):
        init(other, "tpm2", None)
    with pytest.raises(GatewayError, match=r"^false failed$"):
        init(other, "host", None)


def test_what_does_not_come_back_is_not_relied_upon(vault: OfflineVault, tmp_path: Path) -> None:
    program = tmp_path / "grows"
    program.write_text("#!/bin/sh\ncat; echo more\n")
    program.chmod(0o700)
    other = replace(vault, systemd=replace(vault.systemd, program=(str(program),)))
    with pytest.raises(GatewayError, match="did not decrypt"):
        init(other, "tpm2", None)
    assert not other.systemd.exists(NAME)


@pytest.mark.parametrize(("what", "by"), [("with-tpm", b"host+tpm2"), ("without", b"host")])
def test_the_best_that_there_is_seals(tmp_path: Path, what: str, by: bytes) -> None:
    assert credentials(tmp_path, what).encrypt(NAME, bytes(32)).startswith(by + b" ")


def test_what_systemd_seals_it_opens(tmp_path: Path, chip: EmulatedTpm) -> None:
    program = ("systemd-creds", f"--tpm2-device={chip.tcti}")
    real = SystemdCredentials(tmp_path / "credstore", program=program)
    real.write(NAME, real.encrypt(NAME, bytes(range(32)), "tpm2"))
    chip.stop()  # without a resource manager, it would run out of sessions
    chip.start()
    assert real.decrypt(NAME) == bytes(range(32))
    real.replace("other-name", NAME)
    with pytest.raises(GatewayError, match="other-name"):
        real.decrypt("other-name")


@pytest.mark.parametrize("with_key", ["", "host+tpm2"])
def test_the_same_key_is_encrypted_again(vault: OfflineVault, with_key: str) -> None:
    init(vault, "tpm2", None)
    fill(vault)
    key, sealed = unsealed(vault), vault.systemd.file(NAME).read_bytes()
    reseal(vault, "credential", with_key)
    assert unsealed(vault) == key
    assert (vault.systemd.file(NAME).read_bytes() != sealed) is bool(with_key)
    assert not vault.systemd.exists(NAME + NEXT)
    assert filled(vault)
    with pytest.raises(GatewayError, match="--protect"):
        reseal(vault, "tpm2", "host")


def test_the_recovery_key_gives_a_new_tpm_the_vault(vault: OfflineVault, tmp_path: Path) -> None:
    init(vault, "tpm2", public_pem(PAIR))
    fill(vault)
    sealed = vault.systemd.file(NAME).read_bytes()
    moved = replace(vault, systemd=credentials(tmp_path, "another-tpm"))
    with pytest.raises(GatewayError, match="another machine"):
        reseal(moved, "credential", "tpm2")
    stranger = RecoveryKey(private_pem(X25519PrivateKey.generate()))
    with pytest.raises(StoreSealed):
        reseal(replace(moved, recovery=stranger), "credential", "tpm2")
    assert vault.systemd.file(NAME).read_bytes() == sealed
    reseal(replace(moved, recovery=RecoveryKey(private_pem(PAIR))), "credential", "tpm2")
    assert filled(moved)
    with vault.locked(), pytest.raises(GatewayError, match=NAME):
        vault.report()


def test_a_vault_of_the_tpm_needs_no_credential(vault: OfflineVault, chip: EmulatedTpm) -> None:
    inside = replace(vault, settings=VaultSettings(key="tpm2", tcti=chip.tcti))
    _, report = init(inside, "tpm2-in-process", None)
    assert (report.protection, report.counter) == (Protection.TPM2, True)
    assert not vault.systemd.exists(NAME)
    fill(inside)
    reseal(inside, "credential", "tpm2")
    assert filled(vault)  # by the other key
    with inside.locked(), inside.opened() as opened:
        assert admin.report(opened).slots == ("systemd-credential", "tpm2")


def test_the_service_may_use_the_device_of_the_tpm() -> None:
    drop_in = tpm_drop_in("device:/dev/tpmrm9999")
    assert drop_in.endswith("\nBindPaths=-/dev/tpmrm9999\nDeviceAllow=/dev/tpmrm9999 rw\n")
    assert tpm_drop_in("swtpm:path=/run/tpm") == ""


def test_root_writes_no_more_than_a_device_and_a_credential() -> None:
    for tcti in ("device:/x:/usr/bin", "device:/dev/null", "cmd:id", "device:/dev/tpm0\nUser=root"):
        with pytest.raises(GatewayError, match="must be a TPM"):
            tpm_drop_in(tcti)
    for name in ("../key", "a:b", "%d", "a\nUser=root"):
        with pytest.raises(GatewayError, match="must be the name of a systemd credential"):
            credential_drop_in(name, Path("/etc/credstore.encrypted/key"))


@pytest.mark.parametrize(
    "line", ['tcti = "cmd:touch {mark}"', 'tcti = "device:/x:/usr/bin"', 'credential = "../x"']
)
def test_init_runs_and_writes_nothing_by_a_string_of_the_configuration(
    tmp_path: Path, line: str
) -> None:
    config, mark = tmp_path / "gatewayd.toml", tmp_path / "ran"
    config.write_text(
        f'[gateway]\nstate_directory = "{tmp_path}/state"\n[secretstore.vault]\nkey = "tpm2"\n'
        + line.format(mark=mark)
    )
    with pytest.raises(ConfigError, match=r"gatewayd\.toml:5: secretstore\.vault\.\w+ must be"):
        OfflineVault.of(config, {})
    assert not mark.exists()
    assert not (tmp_path / "state").exists()
