"""A vault is made, and what holds its key: wholly, once, and never over another."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gatewayd.cli.systemd_creds import Machine, for_tpm
from gatewayd.cli.vault_init import NEXT, init, reseal
from gatewayd.cli.vault_offline import AtRest
from gatewayd.errors import GatewayError, StoreSealed
from gatewayd.secretstore.keyslots.factory import VaultSettings
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.store import Protection, State
from gatewayd.secretstore.vault import admin
from gatewayd.testing.contracts.secretstore import REF, keep
from tests.secretstore.chip import Chip
from tests.secretstore.pems import private, public
from tests.support import systemd_creds
from tests.support.killed import killed_at

PAIR = X25519PrivateKey.generate()
NOBODY = 65534
NAME = "vault.key"


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[Chip]:
    with closing(Chip(tmp_path / "chip")) as chip:
        chip.start()
        yield chip


def machine(directory: Path, what: str) -> Machine:
    """Return one.  what: makes it differ from others; if there is "tpm" in it, it has one."""
    (directory / what).write_text(what)
    units = (directory / "etc", directory / "lib")
    program = (sys.executable, str(Path(systemd_creds.__file__)), str(directory / what))
    return Machine(directory / "credstore", units, program)


@pytest.fixture
def vault(tmp_path: Path) -> AtRest:
    return AtRest(VaultSettings(), tmp_path / "state", machine(tmp_path, "with-tpm"), {})


def drop_in(vault: AtRest) -> Path:
    return vault.machine.units[0] / "gatewayd.service.d/10-vault.conf"


def unsealed(vault: AtRest) -> bytes:
    return vault.machine.unseal(NAME)


def fill(vault: AtRest) -> None:
    """Put a secret into it."""
    with vault.locked(), vault.opened() as opened:
        keep(opened, REF, b"x")


def filled(vault: AtRest) -> bool:
    with vault.locked(), vault.opened() as opened:
        return opened.get(REF).reveal() == b"x"


def test_the_key_is_sealed_and_handed_to_the_service(vault: AtRest) -> None:
    done, told = init(vault, "tpm2", public(PAIR))
    assert (told.state, told.protection) == (State.UNSEALED, Protection.SYSTEMD_CREDS)
    assert told.slots == (RecoveryKey(private(PAIR)).kind, "systemd-credential")
    file = vault.machine.file(NAME)
    assert len(unsealed(vault)) == 32
    assert unsealed(vault) not in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert f"\nLoadCredentialEncrypted={NAME}:{file}\n" in drop_in(vault).read_text()
    assert str(drop_in(vault)) in "".join(done)
    fill(vault)
    assert filled(vault)


def test_once_made_it_stays(vault: AtRest) -> None:
    init(vault, "tpm2", None)
    fill(vault)
    key, sealed = unsealed(vault), vault.machine.file(NAME).read_bytes()
    for pem in (None, public(PAIR), public(PAIR)):
        done, told = init(vault, "tpm2", pem)
        assert "stays as it is" in "".join(done)
        assert told.secrets == 1
    assert len(told.slots) == 2
    assert (unsealed(vault), vault.machine.file(NAME).read_bytes()) == (key, sealed)
    assert filled(vault)


def test_what_was_cut_off_goes_on_with_the_same_key(vault: AtRest) -> None:
    key = bytes(range(32))
    vault.machine.keep(NAME, vault.machine.seal(NAME, key, "tpm2"))
    assert init(vault, "", None)[1].generation == 1
    assert unsealed(vault) == key
    drop_in(vault).unlink()
    init(vault, "", None)
    assert drop_in(vault).exists()


def test_killed_anywhere_it_is_made_by_the_next_try(vault: AtRest) -> None:
    place, step, done = vault.directory.parent, 0, False
    while not done:
        done = killed_at(step, lambda: init(vault, "tpm2", public(PAIR)))
        key = unsealed(vault) if vault.machine.has(NAME) else None
        told = init(vault, "tpm2", public(PAIR))[1]
        assert (told.state, len(told.slots), drop_in(vault).exists()) == (State.UNSEALED, 2, True)
        assert key in (None, unsealed(vault))
        for made in ("state", "credstore", "etc"):
            shutil.rmtree(place / made)
        step += 23
    assert step > 100


def test_killed_anywhere_a_vault_that_is_resealed_opens(vault: AtRest, tmp_path: Path) -> None:
    init(vault, "tpm2", public(PAIR))
    fill(vault)
    step, done = 0, False
    while not done:
        done = killed_at(step, lambda: reseal(vault, "credential", "host"))
        assert filled(vault)
        step += 23
    assert step > 100
    assert vault.machine.file(NAME).read_bytes().startswith(b"host ")


def test_a_vault_whose_key_is_gone_gets_no_other(vault: AtRest) -> None:
    init(vault, "tpm2", None)
    fill(vault)
    vault.machine.take(NAME + ".away", NAME)
    with pytest.raises(GatewayError, match="its key is not in"):
        init(vault, "tpm2", None)
    assert not vault.machine.has(NAME)
    vault.machine.take(NAME, NAME + ".away")
    assert filled(vault)


def test_what_contradicts_the_configuration_is_refused(vault: AtRest) -> None:
    with pytest.raises(GatewayError, match='needs key = "tpm2"'):
        init(vault, "tpm2-in-process", None)
    assert not vault.directory.exists()
    assert not vault.machine.credentials.exists()


def test_a_service_that_is_handed_the_key_gets_no_drop_in(vault: AtRest) -> None:
    unit = vault.machine.units[1] / "gatewayd.service"
    unit.parent.mkdir()
    unit.write_text("[Service]\nLoadCredential=vault.key:/run/gatewayd-vault-key.socket\n")
    init(vault, "tpm2", None)
    assert not drop_in(vault).exists()


def test_what_root_makes_belongs_to_the_service(vault: AtRest) -> None:
    vault.directory.mkdir(mode=0o700)
    os.chown(vault.directory, NOBODY, NOBODY)
    init(vault, "tpm2", None)
    fill(vault)
    owners = {(one.name, one.stat().st_uid) for one in vault.directory.iterdir()}
    assert owners == {("vault.db", NOBODY), ("lock", NOBODY)}


def test_a_program_that_fails_is_quoted(vault: AtRest) -> None:
    for program, said in ((("/no/such",), "cannot be run"), (("false",), "false has failed")):
        other = replace(vault, machine=replace(vault.machine, program=program))
        with pytest.raises(GatewayError, match=said):
            init(other, "tpm2", None)
        assert not other.machine.has(NAME)


def test_what_does_not_come_back_is_not_relied_upon(vault: AtRest, tmp_path: Path) -> None:
    program = tmp_path / "grows"
    program.write_text("#!/bin/sh\ncat; echo more\n")
    program.chmod(0o700)
    other = replace(vault, machine=replace(vault.machine, program=(str(program),)))
    with pytest.raises(GatewayError, match="does not give back"):
        init(other, "tpm2", None)
    assert not other.machine.has(NAME)


@pytest.mark.parametrize(("what", "by"), [("with-tpm", b"host+tpm2"), ("without", b"host")])
def test_the_best_that_there_is_seals(tmp_path: Path, what: str, by: bytes) -> None:
    assert machine(tmp_path, what).seal(NAME, bytes(32)).startswith(by + b" ")


def test_what_systemd_seals_it_opens(tmp_path: Path, chip: Chip) -> None:
    program = ("systemd-creds", f"--tpm2-device={chip.tcti}")
    real = Machine(tmp_path / "credstore", program=program)
    real.keep(NAME, real.seal(NAME, bytes(range(32)), "tpm2"))
    chip.stop()  # without a resource manager, it would run out of sessions
    chip.start()
    assert real.unseal(NAME) == bytes(range(32))
    real.take("other-name", NAME)
    with pytest.raises(GatewayError, match="other-name does not open"):
        real.unseal("other-name")


@pytest.mark.parametrize("sealing", ["", "host+tpm2"])
def test_the_same_key_is_sealed_anew(vault: AtRest, sealing: str) -> None:
    init(vault, "tpm2", None)
    fill(vault)
    key, sealed = unsealed(vault), vault.machine.file(NAME).read_bytes()
    reseal(vault, "credential", sealing)
    assert unsealed(vault) == key
    assert (vault.machine.file(NAME).read_bytes() != sealed) is bool(sealing)
    assert not vault.machine.has(NAME + NEXT)
    assert filled(vault)
    with pytest.raises(GatewayError, match="is for a key that is a credential"):
        reseal(vault, "tpm2", "host")


def test_the_recovery_key_gives_a_new_tpm_the_vault(vault: AtRest, tmp_path: Path) -> None:
    init(vault, "tpm2", public(PAIR))
    fill(vault)
    sealed = vault.machine.file(NAME).read_bytes()
    moved = replace(vault, machine=machine(tmp_path, "another-tpm"))
    with pytest.raises(GatewayError, match="it is of another machine"):
        reseal(moved, "credential", "tpm2")
    stranger = RecoveryKey(private(X25519PrivateKey.generate()))
    with pytest.raises(StoreSealed):
        reseal(replace(moved, recovery=stranger), "credential", "tpm2")
    assert vault.machine.file(NAME).read_bytes() == sealed
    reseal(replace(moved, recovery=RecoveryKey(private(PAIR))), "credential", "tpm2")
    assert filled(moved)
    with vault.locked(), pytest.raises(GatewayError, match="does not open"):
        vault.report()


def test_a_vault_of_the_tpm_needs_no_credential(vault: AtRest, chip: Chip) -> None:
    inside = replace(vault, settings=VaultSettings(key="tpm2", tcti=chip.tcti))
    _, told = init(inside, "tpm2-in-process", None)
    assert (told.protection, told.counter) == (Protection.TPM2, True)
    assert not vault.machine.has(NAME)
    fill(inside)
    reseal(inside, "credential", "tpm2")
    assert filled(vault)  # by the other key
    with inside.locked(), inside.opened() as opened:
        assert admin.report(opened).slots == ("systemd-credential", "tpm2")


def test_the_service_may_use_the_device_of_the_tpm() -> None:
    told = for_tpm("device:/dev/null")
    assert "\nBindPaths=-/dev/null\nDeviceAllow=/dev/null rw\n" in told
    assert "Groups" not in told  # it is root's
    assert for_tpm("device:/no/such").endswith("DeviceAllow=/no/such rw\n")
    assert for_tpm("swtpm:path=/run/tpm") == ""
