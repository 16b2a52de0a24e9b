"""What all preflights look at."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud import preflight
from gatewayd.cloud.preflight import (
    Check,
    CheckResult,
    ConfiguredSecret,
    EndpointProbe,
    local_context,
)
from gatewayd.errors import ConfigError
from gatewayd.network.connect_errors import ConnectFault
from tests.cloud.looks import AROUND, FAILED, OK, SECRET, UNSURE


@pytest.mark.parametrize(
    ("fault", "synchronised", "verdict"),
    [
        (None, True, OK),
        (None, None, UNSURE),
        (None, False, UNSURE),
        (ConnectFault.DNS, False, UNSURE),
        (ConnectFault.TLS_EXPIRED, True, OK),
        (ConnectFault.TLS_EXPIRED, None, FAILED),
        (ConnectFault.TLS_NOT_YET_VALID, False, FAILED),
    ],
)
def test_the_clock(
    fault: ConnectFault | None, synchronised: bool | None, verdict: CheckResult
) -> None:
    valid = (0.0, 4e9) if fault is None else None
    attempts = [EndpointProbe("h", fault, valid=valid)]
    check = preflight.clock_check(attempts, 1.7e9, synchronised=synchronised)
    assert check.verdict is verdict
    assert "2023-11-14 22:13 UTC" in check.text
    assert ("of the server is valid" in check.text) == (fault is None)
    # a minimal Debian has nothing that timedatectl could switch on
    assert ("install systemd-timesyncd" in check.remedy) == ("timedatectl" in check.remedy)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text(SECRET)
    return path


async def test_a_secret_that_can_be_read(secret: Path) -> None:
    check = await preflight.secret_check(ConfiguredSecret("it", "", secret), AROUND)
    assert check == Check("secret", OK, "The secret of it can be read by operator.")


async def test_a_secret_that_others_may_read(secret: Path) -> None:
    secret.chmod(0o640)
    check = await preflight.secret_check(ConfiguredSecret("it", "", secret), AROUND)
    assert check.verdict is FAILED
    assert f"chmod 0600 {secret}" in check.text


async def test_a_secret_that_is_not_ours_to_read(secret: Path) -> None:
    def read(_credential: str, file: Path | None, **_: bool) -> Any:
        raise ConfigError(f"The secret {file} cannot be read.") from PermissionError()

    around = replace(AROUND, read_secret=read)
    check = await preflight.secret_check(ConfiguredSecret("it", "", secret), around)
    assert check.verdict is FAILED
    assert "runuser -u gatewayd" in check.remedy


async def test_nothing_is_trusted_instead_of_roots_that_cannot_be_read(tmp_path: Path) -> None:
    context = await preflight.trust_context(tmp_path / "none")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.get_ca_certs()


def test_credentials_are_looked_for(tmp_path: Path) -> None:
    assert not local_context({}, tmp_path / "none").credentials
    (tmp_path / "one").write_text("from the running service")
    around = local_context({}, tmp_path)
    assert around.credentials
    assert around.read_secret("one", None).reveal() == b"from the running service"
    given = tmp_path / "given"
    given.mkdir()
    (given / "one").write_text("given to us")
    around = local_context({"CREDENTIALS_DIRECTORY": str(given)}, tmp_path)
    assert around.read_secret("one", None).reveal() == b"given to us"
