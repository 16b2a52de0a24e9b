"""`gatewayctl preflight`: reads the configuration, checks the clouds, and returns its status."""

from __future__ import annotations

import asyncio
import io
import threading
from argparse import ArgumentParser
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gatewayd.cli import main
from gatewayd.cli.clouds import COMMANDS, preflight
from gatewayd.cloud.alibaba.preflight import preflight as alibaba_preflight
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.preflight import Check, CheckResult, PreflightContext, local_context
from gatewayd.config import PluginLoader
from gatewayd.errors import GatewayError
from gatewayd.plugins import CLOUDS, Plugins
from gatewayd.simulator import pki

NOW = datetime.now(UTC)
AUTHORITY = pki.make_ca("simulated cloud", NOW - pki.LIFE, NOW + pki.LIFE)


class Alibaba:
    """The part of the plug-in that a preflight uses."""

    Settings: ClassVar[type] = AlibabaSettings
    preflight = staticmethod(alibaba_preflight)


@dataclass(frozen=True)
class Nothing:
    """No settings."""


class Blind:
    """A plug-in without a preflight."""

    Settings: ClassVar[type] = Nothing


class Sick:
    """A plug-in that reports the checks it is given, with text that a terminal might obey."""

    Settings: ClassVar[type] = Nothing
    said: ClassVar[list[Check]] = []

    @staticmethod
    async def preflight(
        _settings: Nothing, _around: PreflightContext
    ) -> AsyncGenerator[Check, None]:
        for check in Sick.said:
            yield check


class Installed:
    """The plug-ins of these tests, and ours."""

    clouds: ClassVar[dict[str, type]] = {"alibaba": Alibaba, "blind": Blind, "sick": Sick}

    def load(self, group: str, name: str) -> Any:
        return self.clouds[name] if group == CLOUDS else Plugins.installed().load(group, name)


PLUGINS: PluginLoader = Installed()


@contextmanager
def cloud(certificate: pki.KeyedCertificate) -> Iterator[int]:
    """A TLS server in a thread of its own, as the command runs a loop of its own; its port."""
    ready, ports = threading.Event(), list[int]()
    loop, done, clients = asyncio.new_event_loop(), asyncio.Event(), set[asyncio.Task[Any]]()

    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        await reader.read()
        writer.transport.abort()

    async def serve() -> None:
        server = await asyncio.start_server(stay, "127.0.0.1", 0, ssl=certificate.server_context())
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        async with server:
            await done.wait()
        await asyncio.gather(*clients, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(30)
        loop.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration, but for the port."""
    (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("p5Tq0Zx8Wv3Rk1Ls")
    path = tmp_path / "gatewayd.toml"
    path.write_text(f"""
[cloud.alibaba]
host = "localhost"
ca_file = "{tmp_path}/ca.pem"
[cloud.alibaba.products.a1Gt7n5yTt8]
secret_file = "{secret}"
""")
    return path


def with_port(config: Path, port: int) -> Path:
    config.write_text(config.read_text().replace("ca_file", f"port = {port}\nca_file"))
    return config


def run(config: Path, provider: str = "") -> tuple[int, list[str]]:
    out = io.StringIO()
    status = preflight(config, provider, PLUGINS, local_context({}), out)
    return status, out.getvalue().splitlines()


def test_all_is_well(config: Path) -> None:
    with cloud(pki.localhost(AUTHORITY, NOW)) as port:
        status, lines = run(with_port(config, port))
    assert status == 0
    assert lines[0] == "alibaba:"
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["ok", "endpoint"],
        ["ok", "dns"],
        ["ok", "tcp"],
        ["ok", "tls"],
    ]
    assert any(line.startswith("  ok      secret    The secret of product") for line in lines)


def test_what_failed_is_shown_with_its_remedy(config: Path) -> None:
    stranger = pki.make_ca("stranger", NOW - pki.LIFE, NOW + pki.LIFE)
    with cloud(pki.localhost(stranger, NOW)) as port:
        status, lines = run(with_port(config, port), "alibaba")
    assert status == 1
    (failed,) = (n for n, line in enumerate(lines) if line.startswith("  failed"))
    assert lines[failed].split()[1] == "tls"
    assert lines[failed + 1].startswith(" " * 20)
    assert "ca_file" in lines[failed + 1]


def test_a_configuration_that_is_wrong(config: Path) -> None:
    config.write_text('[cloud.alibaba]\nport = "x"\nhots = "y"\n')
    status, lines = run(config)
    assert status == 1
    assert len(lines) == 2
    assert all(line.startswith(f"{config}:") for line in lines)


@pytest.mark.parametrize(("provider", "known"), [("azure", "alibaba"), ("x\x1b[2J", "alibaba")])
def test_a_cloud_that_is_not_configured(config: Path, provider: str, known: str) -> None:
    with pytest.raises(GatewayError, match=known):
        run(config, provider)


def test_no_cloud_at_all(config: Path) -> None:
    config.write_text("")
    with pytest.raises(GatewayError, match="No cloud"):
        run(config)


def test_a_plugin_without_a_preflight(config: Path) -> None:
    config.write_text("[cloud.blind]\n")
    status, lines = run(config)
    assert status == 0
    assert lines[1].startswith("  unsure  cloud")


def test_a_remedy_names_the_cloud_that_was_checked(config: Path) -> None:
    config.write_text('[cloud.east]\nkind = "sick"\n')
    Sick.said = [Check("ca", CheckResult.UNSURE, "", "Run x --cloud CLOUD")]
    assert run(config)[1][-1].strip() == "Run x --cloud east"


def test_a_terminal_is_safe(config: Path) -> None:
    config.write_text("[cloud.sick]\n")
    Sick.said = [Check("dns", CheckResult.FAILED, "\x1b[2J.", "a\nb")]
    status, lines = run(config)
    assert status == 1
    assert lines == ["sick:", r"  failed  dns       \x1b[2J.", " " * 20 + r"a\nb"]


def test_the_command(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with cloud(pki.localhost(AUTHORITY, NOW)) as port:
        words = ["preflight", "--config", str(with_port(config, port)), "azure"]
        assert main.main(words, {}) == 1
    said = capsys.readouterr().err
    assert "'azure'" in said
    assert said.endswith("alibaba\n")


def test_its_arguments() -> None:
    parser = ArgumentParser()
    (command,) = (one for one in COMMANDS if one.words == "preflight")
    command.add_arguments(parser)
    found = parser.parse_args([])
    assert (found.name, str(found.config)) == ("", "/etc/gatewayd/gatewayd.toml")
