"""A disk that is really full: what the cloud has issued still fits, and nothing is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import StoreFull
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.storage.commit_thread import CommitThread
from gatewayd.storage.records import DurableSecrets

IN_A_SMALL_DISK = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" "$3" "$1"'


def ref(number: int) -> SecretRef:
    return SecretRef("cloud", DeviceId(f"child-{number}"), 1)


def fill(directory: Path) -> Path:
    """Write until nothing more fits."""
    filler = directory / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return filler


async def on_a_small_disk(directory: Path) -> None:
    thread = CommitThread()
    thread.start()
    settings = VaultSettings(key="development-file")
    vault = await thread.open(lambda: Vault(settings, directory / "state"))
    secrets = DurableSecrets(thread, vault)
    try:
        await secrets.headroom()
        fill(directory)
        for number in range(32):
            await secrets.put(ref(number), Secret(b"issued"))
        filler = fill(directory)
        with pytest.raises(StoreFull):
            await secrets.headroom()
        with pytest.raises(StoreFull):
            await secrets.put(ref(99), Secret(bytes(100_000)))
        for number in range(32):
            assert await secrets.get(ref(number)) == Secret(b"issued")
        filler.unlink()
        await secrets.headroom()
        await secrets.put(ref(99), Secret(bytes(100_000)))
    finally:
        await thread.aclose()


@pytest.mark.integration
@pytest.mark.namespace
def test_a_full_disk_takes_what_was_issued(tmp_path: Path) -> None:
    command = ["unshare", "-rm", "sh", "-c", IN_A_SMALL_DISK, "sh"]
    done = subprocess.run(
        [*command, str(tmp_path), sys.executable, __file__],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    asyncio.run(on_a_small_disk(Path(sys.argv[1])))
