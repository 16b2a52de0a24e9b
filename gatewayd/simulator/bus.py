"""A private message bus with the rules of the system bus, for tests and the demo."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={directory}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus"
           send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus"
           send_interface="org.freedesktop.DBus.Properties"/>
  </policy>
  <policy user="{uid}">
    <allow send_destination="org.freedesktop.DBus"
           send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
  <includedir>{directory}/system.d</includedir>
</busconfig>
"""


class PrivateBus:
    """A dbus-daemon that denies by default, as the system bus does, while the context lasts.

    policies: files for system.d, as packaging/dbus/org.gatewayd1.conf; what they grant to the
    user "gatewayd" is granted to the current user.
    address: where the bus listens, for every user of the machine.
    """

    def __init__(self, *policies: Path) -> None:
        self._policies = policies
        self.address = ""

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="gatewayd-bus-"))
        self._directory.chmod(0o755)  # as /run/dbus
        self._write()
        self._log = (self._directory / "log").open("w+")
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._log.close()
        shutil.rmtree(self._directory)

    def start(self) -> None:
        """Start the bus, at the address that it had before if it was killed."""
        self._daemon = subprocess.Popen(  # noqa: S603  # our own arguments
            ["dbus-daemon", "--nofork", "--nopidfile", "--print-address=1",  # noqa: S607  # in PATH
             f"--config-file={self._directory}/bus.conf"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        assert self._daemon.stdout is not None
        self.address = self._daemon.stdout.readline().strip().partition(",guid=")[0]
        if not self.address:
            self._log.seek(0)
            message = self._log.read().strip()
            self.__exit__(None, None, None)
            raise OSError(f"dbus-daemon did not start: {message}")

    def pause(self) -> None:
        """Stop the bus, as if it hung."""
        self._daemon.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._daemon.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the bus, as if it had crashed."""
        self._daemon.kill()
        self._daemon.wait()
        assert self._daemon.stdout is not None
        self._daemon.stdout.close()

    def _write(self) -> None:
        uid = os.getuid()
        text = CONFIG.format(directory=self._directory, uid=uid)
        (self._directory / "bus.conf").write_text(text)
        (self._directory / "system.d").mkdir()
        for policy in self._policies:
            ours = policy.read_text().replace('user="gatewayd"', f'user="{uid}"')
            (self._directory / "system.d" / policy.name).write_text(ours)
