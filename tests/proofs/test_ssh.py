"""Host keys of SSH are proven by a key exchange with dropbear, which small devices have."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.device.proof import Proof
from gatewayd.proofs import prover as module
from gatewayd.proofs import reasons
from gatewayd.proofs.certificate import fingerprint
from gatewayd.proofs.prover import Asked, Prover
from gatewayd.proofs.settings import KeyKind, ProofSettings
from gatewayd.runtime.clock import SYSTEM_CLOCK
from gatewayd.simulator.site import end
from tests.proofs.test_prover import HERE, closing, own_application, serving, silent, text


async def a_key(folder: Path, kind: str) -> tuple[Path, str]:
    """Make a host key; return its file, and how it is named."""
    file = folder / f"{kind}.{len(list(folder.iterdir()))}"
    made = await asyncio.create_subprocess_exec(
        "dropbearkey", "-t", kind, "-f", str(file), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    printed, _ = await made.communicate()
    public = next(line for line in printed.splitlines() if line.startswith((b"ssh-", b"ecdsa-")))
    return file, fingerprint(base64.b64decode(public.split()[1]))


@contextlib.asynccontextmanager
async def dropbear(*keys: Path) -> AsyncIterator[int]:
    """Serve SSH with these host keys; yield the port."""
    with socket.create_server((HERE.address, 0)) as free:
        port = free.getsockname()[1]
    options = [word for key in keys for word in ("-r", str(key))]
    process = await asyncio.create_subprocess_exec(
        "dropbear", "-F", "-E", "-s", "-p", f"{HERE.address}:{port}", *options,
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(HERE.address, port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield port
    finally:
        await end(process)


async def proven(port: int, key: str = "") -> Proof:
    settings = {"lamp": ProofSettings(port=port, kind=KeyKind.SSH)}
    made = Prover(settings, SYSTEM_CLOCK, own_application(Path()))
    return await made.prove("lamp", [HERE], known=True, asked=Asked.RETURNED, key=key)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
async def test_a_host_key_is_proven_and_is_the_same_again(tmp_path: Path, kind: str) -> None:
    file, key = await a_key(tmp_path, kind)
    async with dropbear(file) as port:
        assert (await proven(port)).key == key
        again = await proven(port, key)
    assert again.pinned
    assert not again.identity
    assert not again.reason.code


async def test_another_host_key_is_another(tmp_path: Path) -> None:
    _, first = await a_key(tmp_path, "ed25519")
    file, second = await a_key(tmp_path, "ed25519")
    async with dropbear(file) as port:
        proof = await proven(port, first)
    assert proof.key == second != first
    assert not proof.pinned


async def test_of_several_host_keys_it_is_always_the_same(tmp_path: Path) -> None:
    files = [await a_key(tmp_path, kind) for kind in ("rsa", "ecdsa", "ed25519")]
    async with dropbear(*(file for file, _ in files)) as port:
        assert (await proven(port)).key == files[2][1]


@pytest.mark.parametrize(
    ("serve", "reason"),
    [(silent, reasons.TIMED_OUT), (text, reasons.NO_HANDSHAKE), (closing, reasons.NO_HANDSHAKE)],
)
async def test_what_speaks_no_ssh_proves_nothing(
    serve: object, reason: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason is reasons.TIMED_OUT:
        monkeypatch.setattr(module, "TIMEOUT", 1.0)
    async with serving(serve) as server:  # type: ignore[arg-type]  # one of the three
        proof = await proven(server.port)
    assert proof.reason == reason
    assert not proof.key


async def banner(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin as SSH does, and go on without an end."""
    writer.write(b"SSH-2.0-flood\r\n")
    while not writer.is_closing():
        writer.write(b"\x00\x00\x7f\xff" + bytes(1 << 15))
        await writer.drain()


async def test_a_stream_without_an_end_is_cut() -> None:
    async with serving(banner) as server:
        proof = await proven(server.port)
    assert proof.reason == reasons.NO_HANDSHAKE


async def test_without_the_library_the_remedy_is_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    async with serving(silent) as server:
        assert (await proven(server.port)).reason == reasons.NO_LIBRARY
