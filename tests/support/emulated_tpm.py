"""A TPM emulated by swtpm(8), which can vanish, hang, and come back."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from pathlib import Path

from gatewayd.secretstore.tpm.esapi import Handle, Library, library

TIMEOUT = 30.0


LISTENS = "00010000"
"""The flag of a socket that accepts connections, in the fourth column of /proc/net/unix."""


def _listens(path: str) -> bool:
    """Whether a socket accepts connections: its file is there before it does.

    It is not tried out, since swtpm would take that for its client.
    """
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(row[3] == LISTENS and row[-1] == path for row in rows)


class EmulatedTpm:
    """One TPM.  directory: its state, made at the first start."""

    def __init__(self, directory: Path) -> None:
        self._state = directory
        self._sockets = tempfile.TemporaryDirectory(prefix="tpm-")  # a short path
        self._path = Path(self._sockets.name) / "tpm"
        self._process: subprocess.Popen[bytes] | None = None
        self.tcti = f"swtpm:path={self._path}"

    def start(self) -> None:
        """Switch it on."""
        if not self._state.exists():
            self._state.mkdir(parents=True)
            command = ["swtpm_setup", "--tpm2", "--tpm-state", str(self._state)]
            subprocess.run(command, check=True, capture_output=True)
        self._process = subprocess.Popen(
            [
                "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._state}",
                "--server", f"type=unixio,path={self._path}",
                "--ctrl", f"type=unixio,path={self._path}.ctrl",
                "--flags", "not-need-init,startup-clear",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + TIMEOUT
        while not all(map(_listens, (str(self._path), f"{self._path}.ctrl"))):
            assert time.monotonic() < end, "swtpm does not start"
            time.sleep(0.01)

    def stop(self) -> None:
        """Switch it off.  Stopping twice is fine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._path.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let it hang."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def extend(self, what: bytes) -> None:
        """Measure something into PCR 7, as another firmware would.  what: 32 bytes."""
        lib = library()
        with lib.ESAPI(tcti=self.tcti) as esys:
            value = lib.TPMU_HA(sha256=what)
            digest = lib.TPMT_HA(hashAlg=lib.TPM2_ALG.SHA256, digest=value)
            digests = lib.TPML_DIGEST_VALUES([digest])
            esys.pcr_extend(pcr_handle=lib.ESYS_TR.PCR7, digests=digests)

    def lockouts(self) -> int:
        """How many wrong guesses it has counted."""
        lib = library()
        found = self._capability(lib, lib.TPM2_CAP.TPM_PROPERTIES, lib.TPM2_PT.LOCKOUT_COUNTER, 1)
        return int(found.tpmProperties[0].value)

    def loaded(self) -> int:
        """How many transient objects and sessions it holds."""
        lib = library()
        kinds = (0x8000_0000, 0x0200_0000, 0x0300_0000)
        found = (self._capability(lib, lib.TPM2_CAP.HANDLES, first, 9) for first in kinds)
        return sum(one.handles.count for one in found)

    def _capability(self, lib: Library, capability: int, first: int, count: int) -> Handle:
        with lib.ESAPI(tcti=self.tcti) as esys:
            _, found = esys.get_capability(capability=capability, prop=first, property_count=count)
            return found.data

    def close(self) -> None:
        """Switch it off, and remove its sockets."""
        self.stop()
        self._sockets.cleanup()
