"""The daemon over D-Bus, as gatewayctl asks it.

pydbus opens the connection and hears signals.  Its proxies can neither let a caller be asked for a
password nor carry a file descriptor, so calls are made by Gio on the same connection.

The password that polkit may want, asked for on the terminal, as systemctl does it.
"""

from __future__ import annotations

import os
import queue
import re
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pydbus

from gatewayd.cli.output import Row, safe
from gatewayd.dbus.glib import PROPERTIES, Gio, GLib, Variant
from gatewayd.dbus.names import (
    CHANGES,
    GATEWAY,
    MANAGER,
    NAME,
    ROOT,
    Interface,
    ObjectInterface,
    load_all,
)
from gatewayd.errors import GatewayError

PATIENCE = 60
"""Seconds for an answer."""
PATIENCE_WITH_PEOPLE = 130
"""Seconds for an answer where somebody may be asked for a password: polkit gives them 120."""
ABSENT = ("ServiceUnknown", "NameHasNoOwner")

FLAGS = Gio.DBusCallFlags
Prompt = Callable[[], AbstractContextManager[object]]


class BusClient:
    """The daemon over D-Bus.

    address: "system", or an address as "unix:path=/run/bus".
    prompt: opened while something is changed, so that whoever calls can be asked for a password;
        None where nobody is to be asked.
    Raises GatewayError.
    """

    def __init__(self, address: str, prompt: Prompt | None = None) -> None:
        try:
            self._bus = pydbus.SystemBus() if address == "system" else pydbus.connect(address)
        except GLib.Error as error:
            raise GatewayError(reason(error.message)) from None
        self._prompt = prompt
        self._interfaces = load_all()

    def call(self, method: str, *arguments: object, at: ObjectInterface = GATEWAY) -> Any:  # noqa: ANN401  # as D-Bus has it
        """Call a method and return what it returns: None, one value, or a tuple.

        A file descriptor is given as a number, and stays the caller's; one that is returned is
        to be closed by the caller.  Raises GatewayError.
        """
        interface = self._interfaces[at.interface]
        parameters, sent = _packed(interface, method, arguments)
        changes = (at.interface, method) in CHANGES
        asking = self._prompt if changes else None
        flags = FLAGS.ALLOW_INTERACTIVE_AUTHORIZATION if asking else FLAGS.NONE
        patience = PATIENCE_WITH_PEOPLE if changes else PATIENCE
        with asking() if asking else nullcontext():
            answer, came = self._send((*at, method), parameters, flags, patience, sent)
        return _unpacked(interface, method, answer.unpack(), came)

    def properties(self, place: ObjectInterface) -> Mapping[str, Any]:
        """Return the properties of an interface of an object.  Raises GatewayError."""
        method = (place.path, PROPERTIES, "GetAll")
        wanted = Variant("(s)", (place.interface,))
        answer, _ = self._send(method, wanted, FLAGS.NONE, PATIENCE, None)
        (found,) = answer.unpack()
        return dict(found)

    def changes(self) -> Iterator[tuple[list[Row], list[str]]]:
        """Yield changed rows and removed ids, for ever.  Raises GatewayError."""
        found: queue.SimpleQueue[tuple[list[Row], list[str]]] = queue.SimpleQueue()
        self._bus.subscribe(
            NAME, MANAGER, "DevicesChanged", ROOT, signal_fired=lambda *told: found.put(told[-1])
        )
        self.call("CountDevices")  # says whether anybody is there
        context = GLib.MainContext.default()
        # Ctrl-C that comes just before the wait is seen after it: so it ends each second.
        turn = GLib.timeout_add_seconds(1, lambda: True)
        try:
            while True:
                context.iteration(True)  # may_block
                while not found.empty():
                    yield found.get()
        finally:
            GLib.source_remove(turn)

    def variant(self, value: str | int) -> object:
        """Return a string, or a number as u, as a D-Bus variant."""
        return Variant("s" if isinstance(value, str) else "u", value)

    def _send(
        self,
        method: tuple[str, str, str],
        parameters: Variant,
        flags: Any,  # noqa: ANN401  # GLib's
        patience: int,
        sent: Any,  # noqa: ANN401  # GLib's
    ) -> tuple[Any, Any]:
        """Return the answer and its descriptors; not by call_sync, which Ctrl-C would not end."""
        ended: list[Any] = []
        bus, context = self._bus.con, GLib.MainContext.default()
        bus.call_with_unix_fd_list(
            NAME, *method, parameters, None, flags, patience * 1000, sent, None,
            lambda _, result: ended.append(result),
        )  # fmt: skip
        while not ended:
            context.iteration(True)  # may_block
        try:
            answer, came = bus.call_with_unix_fd_list_finish(ended[0])
        except GLib.Error as error:
            raise GatewayError(reason(error.message)) from None
        return answer, came


def reason(message: str) -> str:
    """Return what GLib says of an error as one sentence for people."""
    name, text = re.fullmatch(r"(?:GDBus\.Error:([\w.]+): )?(.*)", message, re.DOTALL).groups()  # type: ignore[union-attr]  # matches all
    if name and name.endswith(ABSENT):
        return "gatewayd is not running"
    return safe(text.strip())


def _packed(
    interface: Interface, method: str, arguments: tuple[object, ...]
) -> tuple[Variant, Any]:
    """Return the arguments as a method takes them, with their descriptors in a list beside."""
    signature = "".join(a.signature for a in interface.info.lookup_method(method).in_args)
    sent = Gio.UnixFDList.new()
    handles = interface.handles[method]
    given = (sent.append(a) if i in handles else a for i, a in enumerate(arguments))
    return Variant(f"({signature})", tuple(given)), sent if handles else None


def _unpacked(
    interface: Interface,
    method: str,
    values: tuple[Any, ...],
    came: Any,  # noqa: ANN401  # GLib's
) -> Any:  # noqa: ANN401  # as D-Bus has it
    """Return what a method has returned, with descriptors for their places in the list."""
    returned = interface.info.lookup_method(method).out_args
    found = [
        came.get(value) if argument.signature == "h" else value
        for argument, value in zip(returned, values, strict=True)
    ]
    return found[0] if len(found) == 1 else tuple(found) or None


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
