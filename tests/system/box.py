"""A machine with a systemd of its own, booted from a root file system in a second or less."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

BOOT = Path(__file__).with_name("boot")
PATIENCE = 180.0
"""Seconds to wait for something to come true, on a slow machine."""
LONGEST = 5 * PATIENCE
"""Seconds that one command may take inside, as does a build of the packages on a slow machine."""
LOOK, SELDOM = 0.05, 0.5
"""Seconds from one look to the next, at first and at most: each costs some processes."""
ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb")
FORBIDDEN = "-sys_time,-sys_module,-sys_boot,-sys_rawio"
"""Capabilities whose harm no namespace confines."""


class CannotBoot(Exception):
    """This machine cannot run a container with a systemd; its text says why."""


class Failed(Exception):
    """A command that was run inside has failed; its text is all that it said."""


class Box:
    """One machine.  Nothing of it is left behind, but what it wrote below `changes`/upper.

    layers: directories that it is made of, the uppermost first; none is written to.
    options: more of systemd-nspawn, such as its network.
    """

    def __init__(
        self, layers: Sequence[Path], changes: Path, options: Sequence[str] = ("--private-network",)
    ) -> None:
        self.name = f"gateway-{os.getpid()}"
        self.changes, self._layers, self._options = changes, layers, options
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def boot(self, *more: str) -> None:
        """Boot, and return when systemd has started what it was to start.

        more: options of systemd-nspawn for this once.  Raises CannotBoot.
        """
        self.changes.mkdir(parents=True, exist_ok=True)
        layers = ":".join(map(str, self._layers))
        with self._notifications() as told, (self.changes / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [BOOT, self.name, layers, self.changes, *self._options, *more],
                env=os.environ | {"NOTIFY_SOCKET": told.getsockname()},
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip
            try:
                self._await_ready(told)
            except BaseException:
                self.cut_power()
                raise

    def power_off(self) -> None:
        """Shut down as systemctl poweroff does."""
        self._end(signal.SIGTERM)

    def cut_power(self) -> None:
        """End everything in it at once: nothing is flushed, nobody is asked."""
        if not self._leader:
            self._end(signal.SIGKILL)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._leader, signal.SIGKILL)
        self._end(None)

    def reboot(self) -> None:
        """Shut down, and boot again with what was written."""
        self.power_off()
        self.boot()

    def run(self, *command: str, user: str = "", input: str = "") -> str:  # noqa: A002  # as in subprocess
        """Run a command inside, as root or a user; return what it prints.  Raises Failed."""
        ran = subprocess.run(
            [*self.inside, *(("runuser", "-u", user, "--") if user else ()), *command],
            check=False, input=input, capture_output=True, text=True, timeout=LONGEST,
        )  # fmt: skip
        if ran.returncode:
            raise Failed(f"{' '.join(command)}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}")
        return ran.stdout.rstrip("\n")

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Return once `holds` returns something true; a command that fails is not yet true.

        Raises TimeoutError, with the end of the journal.
        """
        end, pause = time.monotonic() + PATIENCE, LOOK
        while time.monotonic() < end:
            with contextlib.suppress(Failed):
                if holds():
                    return
            time.sleep(pause)
            pause = min(1.5 * pause, SELDOM)
        journal = self.run("journalctl", "--no-pager", "-n", "40")
        raise TimeoutError(f"timed out waiting for {what}; the journal ends:\n{journal}")

    def journal(self, *options: str) -> str:
        """Return what journalctl shows, with all that was logged before this call."""
        script = 'journalctl --sync && exec journalctl --no-pager "$@"'
        return self.run("sh", "-c", script, "sh", *options)

    def path(self, inside: str) -> Path:
        """Return where a file is seen from outside; of a machine that is off, if it wrote it."""
        root = Path(f"/proc/{self._leader}/root") if self._leader else self.changes / "upper"
        return root / inside.lstrip("/")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside, and its directories; the machine may be off."""
        path = self.path(inside)
        if not self._leader:
            self._add_directories(path.parent.relative_to(self.changes / "upper"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def _add_directories(self, inside: Path) -> None:
        """Make directories in the layer that is written to, as they are in the layers below."""
        for part in reversed([inside, *inside.parents]):
            here = self.changes / "upper" / part
            below = next((layer / part for layer in self._layers if (layer / part).is_dir()), None)
            if below is not None and not here.exists():
                here.mkdir(parents=True)
                found = below.stat()
                shutil.chown(here, found.st_uid, found.st_gid)
                here.chmod(found.st_mode & 0o7777)  # no attribute, by which it would hide that one

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command line begins with, to be run inside."""
        return ("setpriv", f"--bounding-set={FORBIDDEN}", "nsenter", "--target", str(self._leader),
                "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd",
                "env", "-i", *ENVIRONMENT)  # fmt: skip

    @contextlib.contextmanager
    def _notifications(self) -> Iterator[socket.socket]:
        path = self.changes / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(path))
            told.settimeout(1.0)
            try:
                yield told
            finally:
                path.unlink()

    def _await_ready(self, told: socket.socket) -> None:
        assert self._process is not None, "it was started"
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                lines = told.recv(4096).decode().splitlines()
            except TimeoutError:
                lines = []
            for line in lines:
                if line.startswith("X_NSPAWN_LEADER_PID="):
                    self._leader = int(line.partition("=")[2])
            if "READY=1" in lines:
                return
            if self._process.poll() is not None:
                break
        console = (self.changes / "console").read_text(errors="replace")
        raise CannotBoot(f"no systemd starts in a container here:\n{console[-2000:]}")

    def _end(self, number: signal.Signals | None) -> None:
        """Wait for its end, after a signal where one is given."""
        process, self._process, self._leader = self._process, None, 0
        if process is None:
            return
        if number is not None:
            process.send_signal(number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _remove_group(self.name)


def _remove_group(name: str) -> None:
    """Remove an empty control group, as the machine leaves it."""
    script = (
        "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup;"
        "for _ in $(seq 100); do"
        ' find "/sys/fs/cgroup/$0" -depth -type d -exec rmdir {} + && exit; sleep 0.05; done'
    )
    subprocess.run(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", script, name],
        check=False, capture_output=True,
    )  # fmt: skip


def obstacle() -> str:
    """Say why no machine can be booted here, as far as can be seen before it is tried; or ""."""
    if os.geteuid() != 0:
        return "systems are booted by root only"
    missing = [t for t in ("systemd-nspawn", "mmdebstrap", "nsenter") if not shutil.which(t)]
    return f"{', '.join(missing)} is missing" if missing else ""
