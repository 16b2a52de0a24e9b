"""No secret leaks: not on the bus, in the log, in /proc, nor in the clear on the disk."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import stat
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.simulator.site import MANAGER, Site, run
from tests.integration.lan import CHILDREN, NETWORK, namespaces
from tests.support.gatewayctl import GATEWAYCTL
from tests.support.pem_keys import private_pem, public_pem

pytestmark = pytest.mark.namespace

OBJECTS = (MANAGER[0], "/org/gatewayd1/device", "org.freedesktop.DBus.ObjectManager")
VAULT_KEY = bytes(range(0x81, 0xA1))
RECOVERY = X25519PrivateKey.generate()
PASSPHRASE = b"correct-horse-battery-staple"
PROC_FILES = ("cmdline", "environ", "comm", "status", "maps", "mountinfo", "limits")
"""Files of /proc/PID that show a process."""


def forms(secret: bytes) -> Iterator[bytes]:
    """Yield what a secret looks like: in halves as it is, in hex and escapes, and in base64."""
    half = len(secret) // 2
    for part in (secret[:half], secret[half:]):
        yield part
        yield part.hex().encode()
        yield part.hex().upper().encode()
        yield repr(part)[2:-1].encode()
    for shift in range(3):  # at any offset in what is encoded; the edges belong to other bytes
        inner = base64.b64encode(bytes(shift) + secret)[4 if shift else 0 : -4]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


def leaks(places: Mapping[str, bytes], secrets: Iterable[bytes]) -> list[tuple[str, int]]:
    """Return which of the secrets are where: place and number."""
    needles = [(number, one) for number, secret in enumerate(secrets) for one in forms(secret)]
    assert all(len(needle) >= 8 for _, needle in needles)
    return [(where, n) for where, text in places.items() for n, one in needles if one in text]


def credentials(directory: Path, product_secret: str) -> Path:
    """Write the credentials that systemd would pass."""
    handed = directory / "credentials"
    handed.mkdir(mode=0o700)
    (handed / "vault.key").write_bytes(VAULT_KEY)
    (handed / "product").write_text(product_secret)
    return handed


@contextlib.asynccontextmanager
async def site(tmp_path: Path, *options: str) -> AsyncIterator[Site]:
    """Yield a site whose gatewayd logs all there is, gets credentials, and has no umask."""
    layout = ("--interface", CHILDREN, "--address", CHILDREN, "--network", NETWORK, *options)
    (tmp_path / "tmp").mkdir()
    with namespaces() as (gateway, children):
        environ = ("env", f"CREDENTIALS_DIRECTORY={tmp_path / 'credentials'}",
                   f"TMPDIR={tmp_path / 'tmp'}", f"HOME={tmp_path / 'tmp'}")  # fmt: skip
        careless = (*environ, "sh", "-c", 'umask 0; exec "$@"', "sh")
        one = Site(tmp_path, (*gateway, *careless), children, "lan0", layout)
        async with one.open():
            credentials(tmp_path, (tmp_path / "product-secret").read_text())
            config = (tmp_path / "gatewayd.toml").read_text()
            config = config.replace('key = "development-file"', 'key = "credential"')
            config = config.replace(
                f'secret_file = "{tmp_path}/product-secret"', 'secret_credential = "product"'
            )
            rules = (tmp_path / "rules.d/10-sensors.toml").read_text()
            one.configure(f'{config}[log]\nlevel = "debug"\n', rules)
            yield one


@contextlib.asynccontextmanager
async def captured(one: Site, file: Path) -> AsyncIterator[None]:
    """Write all traffic of the bus to a file, to the last message before the end."""
    with file.open("wb") as out:
        capture = await asyncio.create_subprocess_exec(
            "busctl", f"--address={one.bus}", "--size=16777216", "capture",
            stdout=out, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def captures(marker: str) -> bool:
        with contextlib.suppress(RuntimeError):  # there is no such name
            await one.busctl("call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus",
                             "GetNameOwner", "s", marker)  # fmt: skip
        return marker.encode() in file.read_bytes()

    try:
        await one.until(lambda: captures("has.begun"), "the capture to begin")
        yield
        await one.until(lambda: captures("has.ended"), "the capture to end")
    finally:
        capture.terminate()
        await capture.wait()


def of_process(pid: int) -> dict[str, bytes]:
    """What any user could read of a process."""
    here = Path(f"/proc/{pid}")
    links = "\n".join(str(one.readlink()) for one in (here / "fd").iterdir() if one.is_symlink())
    return {f"/proc/{name}": (here / name).read_bytes() for name in PROC_FILES} | {
        "/proc/fd": links.encode()
    }


def files(directory: Path) -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in directory.rglob("*") if one.is_file()}


def open_to_others(directory: Path) -> list[tuple[str, str]]:
    """Return what in a directory, itself included, has another mode than 0700 or 0600."""
    modes = [(one, one.lstat().st_mode) for one in (directory, *directory.rglob("*"))]
    wrong = [
        (one, mode)
        for one, mode in modes
        if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)
    ]
    return [(str(one), stat.filemode(mode)) for one, mode in wrong]


def in_vault(state: Path, handed: Path) -> list[bytes]:
    """Return the data key of a closed vault, and every secret in it."""
    vault = Vault(VaultSettings(), state, handed)
    try:
        keys = vault.keys()
        key = keys.key(keys.newest).tobytes()
        return [key, *(vault.get(ref).reveal() for ref in vault.refs())]
    finally:
        vault.close()


async def ask_everything(one: Site, device: str) -> None:
    """Call every method that shows gatewayd or a child."""
    path = await one.call("GetDevice", "s", device)
    for method in ("ListDevices", "ListRules", "CountDevices"):
        await one.call(method)
    for method in ("DescribeDevice", "TestAdmission"):
        await one.call(method, "s", device)
    for about in (path, MANAGER[1]):
        await one.busctl("introspect", MANAGER[0], about)
    await one.busctl("call", *OBJECTS, "GetManagedObjects")


async def ask_of_the_store(one: Site, directory: Path) -> str:
    """Run every command on the store; return what was printed."""
    (directory / "public.pem").write_bytes(public_pem(RECOVERY))
    printed = ""
    for words in (
        ("store", "add-recovery", str(directory / "public.pem")), ("store", "rotate"),
        ("store", "reseal"), ("store", "export", "--output", str(directory / "export")),
        ("store", "accept-rollback"), ("store", "accept-machine"), ("store", "status"),
        ("dump", "--config", str(directory / "gatewayd.toml")),
    ):  # fmt: skip
        printed += await run(*GATEWAYCTL, "--bus", one.bus, *words)
    assert "Recovery keys: 1" in printed
    assert '"Verdict": "ok"' in printed  # of the preflight, which reads the secrets
    return printed


async def ask_offline(directory: Path) -> str:
    """Open the vault offline by both keys that it has; return what was printed."""
    files = {"private.pem": private_pem(RECOVERY, BestAvailableEncryption(PASSPHRASE)),
             "passphrase": PASSPHRASE}  # fmt: skip
    for name, content in files.items():
        (directory / name).write_bytes(content)
    opener = ("--recovery-key", str(directory / "private.pem"),
              "--passphrase-file", str(directory / "passphrase"))  # fmt: skip
    environ = ("env", f"CREDENTIALS_DIRECTORY={directory / 'credentials'}")
    config = ("--config", str(directory / "gatewayd.toml"))
    printed = ""
    for words in (
        ("status",), ("rotate",), ("reseal", "credential", *opener),
        ("export", "--output", str(directory / "export-offline"), *opener),
    ):  # fmt: skip
        printed += await run(*environ, *GATEWAYCTL, "vault", *words, *config)
    assert "State: unsealed" in printed
    return printed


async def test_no_secret_is_in_anything_that_can_be_read(tmp_path: Path) -> None:
    async with site(tmp_path, "--children", "2", "--late", "2", "--unlisted", "1") as one:
        first, second, third, held = one.plant["serials"]
        product, capture = tmp_path / "credentials/product", tmp_path / "bus.pcap"
        right = product.read_text()
        async with captured(one, capture):
            await one.start()
            for child in (first, second):
                await one.wait_for(child, "online")
            product.write_text("a-wrong-product-secret")
            await one.ask(do="announce", child=third)
            await one.wait_for(third, "failed")
            product.write_text(right)
            await one.call("Reload")
            await one.wait_for(third, "online")
            await one.ask(do="announce", child=held)
            await one.wait_for(held, "pending")
            shown = await one.devices()
            await one.call("Approve", "ss", shown[held][0], "")
            await one.wait_for(held, "online")
            await one.call("Reject", "ss", shown[second][0], "not ours")
            printed = await ask_of_the_store(one, tmp_path)
            for device, _ in shown.values():
                await ask_everything(one, device)
            assert one.daemon is not None
            places = of_process(one.daemon.pid) | files(tmp_path / "state")
            wrong_modes = open_to_others(tmp_path / "state")
            assert await one.stop() == 0
        ledgers = (await one.ask(do="truth"))["cloud"]["devices"][one.plant["product"]]
    secrets = await asyncio.to_thread(in_vault, tmp_path / "state", tmp_path / "credentials")
    issued = {digest for ledger in ledgers.values() for digest in ledger["secrets_sha256"]}
    assert {hashlib.sha256(one).hexdigest() for one in secrets[1:]} == issued
    assert len(issued) == 4
    secrets += [VAULT_KEY, right.encode(), b"a-wrong-product-secret"]
    secrets += [bytes.fromhex(one.decode()) for one in secrets[1:5]]
    places |= {"bus": capture.read_bytes(), "log": (tmp_path / "gatewayd.log").read_bytes()}
    places |= {"gatewayctl": (printed + await ask_offline(tmp_path)).encode()}
    places |= files(tmp_path / "state") | files(tmp_path / "tmp")
    exports = [tmp_path / "export", tmp_path / "export-offline"]
    places |= {one.name: one.read_bytes() for one in exports}
    assert [stat.S_IMODE(one.stat().st_mode) for one in exports] == [0o600, 0o600]
    assert not any(first.encode() in places[one.name] for one in exports)
    secrets += [RECOVERY.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())]
    newest = await asyncio.to_thread(in_vault, tmp_path / "state", tmp_path / "credentials")
    secrets += [PASSPHRASE, newest[0]]
    assert first.encode() in places["bus"]
    assert b" is online" in places["log"]
    assert leaks(places, secrets) == []
    assert wrong_modes + open_to_others(tmp_path / "state") == []


def test_a_secret_is_found_in_every_form_at_every_offset() -> None:
    """The search itself: it would be no proof if it could not find anything."""
    secret = VAULT_KEY
    for before in (b"", b"a", b"ab", b"abc"):
        whole = before + secret + b"rest"
        hidden = (whole, whole.hex().encode(), base64.b64encode(whole),
                  base64.urlsafe_b64encode(whole), repr(whole).encode())  # fmt: skip
        for text in hidden:
            assert leaks({"there": b"..." + text}, [secret])
    assert leaks({"there": b"nothing of it"}, [secret]) == []
