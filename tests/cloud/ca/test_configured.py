"""The gateway's own certificate, whose files are replaced while gatewayd is off."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from gatewayd.ca.keys import read_key
from gatewayd.cloud.ca.configured import CertificateFiles, ConfiguredCertificate
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.mqtt import Handler
from gatewayd.cloud.provider import Issued
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.testing.contracts.cloud import RecordingKeeper
from tests.cloud.guarded import device_ca, identity

NAME = CloudName("huawei", "p", "gw")


def write(folder: Path) -> None:
    key, end, chain = (
        identity(device_ca(), days=50).reveal().partition(b"-----END PRIVATE KEY-----\n")
    )
    (folder / "gw.pem").write_bytes(chain)
    (folder / "gw.key").touch(mode=0o600)
    (folder / "gw.key").write_bytes(key + end)


def started(folder: Path) -> ConfiguredCertificate:
    """Return the source of the identity, as after a start."""
    files = CertificateFiles(folder / "gw.pem", "", folder / "gw.key", "", None)
    return ConfiguredCertificate(files, partial(read_secret, None), "p_gw", 30, time.time)


async def log_in(_: CloudName, secret: Secret, __: Handler | None) -> Secret:
    return secret


async def test_files_that_were_replaced_while_it_was_off_count_at_the_next_login(
    tmp_path: Path,
) -> None:
    """The one in use logs in, and is to be replaced at once."""
    write(tmp_path)
    kept = RecordingKeeper()
    assert await started(tmp_path).register(NAME, kept.keep) == Issued()
    (secret,) = kept.secrets
    same = started(tmp_path)
    assert await same.open(log_in, NAME, secret, None) == secret
    assert same.renew_at(NAME, secret) != 0.0
    write(tmp_path)
    later = started(tmp_path)
    assert await later.open(log_in, NAME, secret, None) == secret
    assert later.renew_at(NAME, secret) == 0.0


def test_the_blank_at_the_end_of_a_passphrase_belongs_to_it(tmp_path: Path) -> None:
    write(tmp_path)
    locked = read_key((tmp_path / "gw.key").read_bytes()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open sesame "),
    )
    (tmp_path / "gw.key").write_bytes(locked)
    (tmp_path / "gw.pass").write_bytes(b"open sesame \n")
    (tmp_path / "gw.pass").chmod(0o600)
    for credential, file in (("gw.pass", None), ("", tmp_path / "gw.pass")):
        files = CertificateFiles(tmp_path / "gw.pem", "", tmp_path / "gw.key", credential, file)
        read = files.read(partial(read_secret, tmp_path), "p_gw", time.time())
        assert read.device_id == "p_gw"


async def test_files_that_cannot_be_read_keep_no_one_from_a_login(tmp_path: Path) -> None:
    write(tmp_path)
    kept = RecordingKeeper()
    await started(tmp_path).register(NAME, kept.keep)
    (tmp_path / "gw.key").unlink()
    assert await started(tmp_path).open(log_in, NAME, kept.secrets[0], None) == kept.secrets[0]
