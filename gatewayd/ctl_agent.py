"""The password that polkit may want, asked for on the terminal, as systemctl does it."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from gatewayd.errors import GatewayError

PROGRAM = "pkttyagent"
READY = 10.0  # seconds in which it has to be ready; then the call is made without it
END = 5.0  # seconds in which it has to end when told so
ON_THIS_BUS = "DBUS_SYSTEM_BUS_ADDRESS"


def password_agent(address: str, environ: Mapping[str, str]) -> AbstractContextManager[None]:
    """Return what has an agent run while it is open; nothing where there is no use for one.

    address: of the bus on which polkit is, or "system".  environ: of the process.
    """
    program = shutil.which(PROGRAM, path=environ.get("PATH"))
    if program is None or not useful(os.geteuid(), on_terminal=os.isatty(0)):
        return nullcontext()
    return running(program, environ if address == "system" else {**environ, ON_THIS_BUS: address})


def useful(uid: int, *, on_terminal: bool) -> bool:
    """Whether somebody may have to type a password, and can: root is not asked for one."""
    return uid != 0 and on_terminal


@contextmanager
def running(program: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Have pkttyagent(1) serve this process while the context lasts.  Raises GatewayError.

    Another agent of the session, as that of a desktop, goes before it.
    """
    agent = _started(program, environ)
    try:
        yield
    finally:
        agent.terminate()
        try:
            agent.wait(END)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()


def _started(program: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Return an agent that is registered; it closes its end of a pipe when it is, or has ended."""
    ready, told = os.pipe()
    try:
        words = (program, "--notify-fd", str(told), "--fallback")
        agent = subprocess.Popen(words, pass_fds=(told,), env=environ)  # noqa: S603  # as found
    except OSError as error:
        os.close(ready)
        raise GatewayError(
            f"{program} cannot be run: {error.strerror}; see --no-ask-password"
        ) from error
    finally:
        os.close(told)
    select.select([ready], [], [], READY)
    os.close(ready)
    return agent
