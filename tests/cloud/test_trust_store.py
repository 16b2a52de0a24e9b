"""The trusted roots are those that the file has now, on real TLS."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gatewayd.network import tls
from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.simulator import pki
from tests.cloud.conftest import stay

Serve = Callable[..., AbstractAsyncContextManager[Any]]
NOW = datetime.now(UTC)


async def reach(trust: tls.TrustStore, port: int) -> ConnectFault | None:
    """Connect; return what failed."""
    try:
        context = await trust.context()
        (await tls.dial(tls.Server("localhost", port, context, 20.0, 20.0))).close()
    except ConnectError as error:
        return error.fault
    return None


@pytest.fixture
def own(tmp_path: Path, authority: pki.RootAuthority) -> Path:
    path = tmp_path / "roots.pem"
    path.write_text(authority.pem)
    return path


@pytest.fixture
def successor() -> pki.RootAuthority:
    return pki.make_ca("successor", NOW - pki.LIFE, NOW + pki.LIFE)


async def test_a_new_root_counts_after_release(
    serve: Serve, own: Path, successor: pki.RootAuthority
) -> None:
    trust = tls.TrustStore(own)
    async with serve(stay) as broker:
        assert await reach(trust, broker.port) is None
    async with serve(stay, pki.localhost(successor, NOW)) as broker:
        assert await reach(trust, broker.port) is ConnectFault.TLS_UNKNOWN_CA
        own.write_text(successor.pem)
        trust.release()
        assert await reach(trust, broker.port) is None
        await broker.until(0)


async def test_a_root_that_was_taken_out_is_not_trusted_any_more(
    serve: Serve, own: Path, successor: pki.RootAuthority
) -> None:
    trust = tls.TrustStore(own)
    async with serve(stay) as broker:
        assert await reach(trust, broker.port) is None
        own.write_text(successor.pem)
        trust.release()
        assert await reach(trust, broker.port) is ConnectFault.TLS_UNKNOWN_CA
        for unusable in ("", "no certificate"):
            own.write_text(unusable)
            trust.release()
            assert await reach(trust, broker.port) is ConnectFault.CA_FILE


async def test_it_is_seen_without_release_as_well(
    own: Path, successor: pki.RootAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "CHECK_EVERY", 0.0)
    trust = tls.TrustStore(own)
    first = await trust.context()
    own.write_text(successor.pem)
    async with asyncio.timeout(30):
        while await trust.context() is first:
            await asyncio.sleep(0.005)
    (root,) = (await trust.context()).get_ca_certs()
    assert (("commonName", "successor"),) in root["subject"]


async def test_roots_in_use_stay_so_while_the_disk_hangs(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "CHECK_EVERY", 0.0)
    trust, resumes = tls.TrustStore(own), threading.Event()
    first = await trust.context()
    real = trust._watched.changed

    def hang(paths: Iterable[Path]) -> set[Path]:
        assert resumes.wait(30)
        return real(paths)

    monkeypatch.setattr(trust._watched, "changed", hang)
    try:
        for _ in range(3):
            assert await trust.context() is first
    finally:
        resumes.set()


async def test_many_that_need_it_at_once_have_it_made_once(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path | None] = []
    real = tls.client_context

    def make(path: Path | None) -> ssl.SSLContext:
        made.append(path)
        return real(path)

    monkeypatch.setattr(tls, "client_context", make)
    trust = tls.TrustStore(own)
    contexts = await asyncio.gather(*(trust.context() for _ in range(20)))
    assert made == [own]
    assert all(context is contexts[0] for context in contexts)


async def test_the_same_content_keeps_the_context(own: Path) -> None:
    trust = tls.TrustStore(own)
    first = await trust.context()
    own.write_bytes(own.read_bytes())
    trust.release()
    assert await trust.context() is first


async def test_a_release_while_the_file_is_read_is_not_lost(
    own: Path, successor: pki.RootAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, trust = tls.client_context, tls.TrustStore(own)

    def replaced_meanwhile(path: Path | None) -> Any:
        made = make(path)
        if own.read_text() != successor.pem:
            own.write_text(successor.pem)
            trust.release()
        return made

    monkeypatch.setattr(tls, "client_context", replaced_meanwhile)
    (root,) = (await trust.context()).get_ca_certs()
    assert (("commonName", "successor"),) in root["subject"]


async def test_a_pipe_in_the_place_of_the_file_blocks_nothing(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "roots.pem")
    with pytest.raises(ConnectError) as raised:
        await tls.TrustStore(pipe).context()
    assert raised.value.fault is ConnectFault.CA_FILE


async def test_roots_of_the_system_that_were_updated_count(
    tmp_path: Path, authority: pki.RootAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    trust = tls.TrustStore(None)
    first = await trust.context()
    bundle.write_text(authority.pem + authority.pem)
    trust.release()
    assert await trust.context() is not first
