"""The D-Bus client of gatewayctl, and the agent that asks for the password that polkit may want.

pydbus opens the connection and receives signals.  Its proxies can neither allow interactive
authorization nor carry a file descriptor, so Gio makes the calls, on the same connection.
The password is asked for on the terminal, as systemctl does.
"""

from __future__ import annotations

import os
import queue
import re
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pydbus

from gatewayd.cli.output import DeviceRow, safe
from gatewayd.cli.output.terminal import sign_of_life
from gatewayd.dbus.glib import DISCONNECTED, NO_REPLY, Gio, GLib, Variant
from gatewayd.dbus.interfaces import Interface, load_all
from gatewayd.dbus.methods import EVERYBODY, METHOD_TABLES
from gatewayd.dbus.names import (
    AUTHORITY,
    BROKER,
    GATEWAY,
    MANAGER,
    NAME,
    PROPERTIES,
    ROOT,
    ObjectInterface,
)
from gatewayd.errors import GatewayError

TIMEOUT = 60
"""Seconds for a reply."""
INTERACTIVE_TIMEOUT = 130
"""Seconds for a reply that may need a password: polkit waits 120 for it."""
WAITING = "Waiting for gatewayd"
NOT_RUNNING = ("ServiceUnknown", "NameHasNoOwner")
NO_BUS = "NoBus"
"""The name of an error that is none of D-Bus: no connection, or none any more, or no reply."""
UNANSWERED = (NO_BUS, NO_REPLY, DISCONNECTED)
"""The names of errors by which it is not known what became of a call."""
CUT_SHORT = ("gatewayd is stopping", "The message bus was lost")
"""What the daemon answers to a call that it did not wait for; it may be done all the same."""
NOT_THERE = ("Object does not exist", "No such interface")
"""GLib's words for it; the name of both errors is UnknownMethod, as it is of others."""
ABSENT: Mapping[str, str] = {
    BROKER: "gatewayd's own broker is not enabled."
    "  Set enabled = true in [messages] and in [messages.broker], and restart gatewayd.",
    AUTHORITY: "there is no such cloud, or it has no device CA: those of kind huawei and mqtt can"
    " have one.  See gatewayctl clouds, and name it by --cloud.",
}
"""What it means that an interface is not there, for those that depend on the configuration."""

AUTHORIZED = frozenset(
    (table.interface, method.name)
    for table in METHOD_TABLES
    for method in table
    if method.permission is not EVERYBODY
)
"""The methods for which polkit may want a password."""

FLAGS = Gio.DBusCallFlags
ASLEEP = FLAGS.NO_AUTO_START
"""The flag of every call: gatewayctl never starts gatewayd.  One that was stopped stays so, and
one that fails is not waited for."""
Prompt = Callable[[], AbstractContextManager[object]]


class BusClient:
    """The client of the daemon's D-Bus service; implements command.Client.

    address: "system", or an address as "unix:path=/run/bus".
    prompt: a context in which polkit can ask the caller for a password, entered for each call
        that needs authorization; None to ask for none.
    signs: whether a sign of life may be shown on the terminal.
    Raises GatewayError.
    """

    def __init__(self, address: str, prompt: Prompt | None = None, *, signs: bool = True) -> None:
        try:
            self._bus = pydbus.SystemBus() if address == "system" else pydbus.connect(address)
        except GLib.Error as error:
            raise refusal(error.message) from None
        self._prompt, self._signs = prompt, signs
        self._interfaces = load_all()

    def call(self, method: str, *arguments: object, at: ObjectInterface = GATEWAY) -> Any:  # noqa: ANN401  # the signature decides
        """Call a method and return what it returns: None, one value, or a tuple.

        A file descriptor is passed as a number and stays the caller's; the caller closes one that
        is returned.  Raises GatewayError.
        """
        interface = self._interfaces[at.interface]
        parameters, sent = _packed(interface, method, arguments)
        authorized = (at.interface, method) in AUTHORIZED
        prompt = self._prompt if authorized else None
        flags = ASLEEP | FLAGS.ALLOW_INTERACTIVE_AUTHORIZATION if prompt else ASLEEP
        timeout = INTERACTIVE_TIMEOUT if authorized else TIMEOUT
        with prompt() if prompt else sign_of_life(WAITING, wanted=self._signs):
            reply, received = self._send((*at, method), parameters, flags, timeout, sent)
        return _unpacked(interface, method, reply.unpack(), received)

    def properties(self, place: ObjectInterface) -> Mapping[str, Any]:
        """Return the properties of an interface of an object.  Raises GatewayError."""
        method = (place.path, PROPERTIES, "GetAll")
        parameters = Variant("(s)", (place.interface,))
        reply, _ = self._send(method, parameters, ASLEEP, TIMEOUT, None)
        (found,) = reply.unpack()
        return dict(found)

    def changes(self) -> Iterator[tuple[list[DeviceRow], list[str]]]:
        """Yield changed rows and removed ids, for ever; none of them at least once a second.

        Raises GatewayError.
        """
        found: queue.SimpleQueue[tuple[list[DeviceRow], list[str]]] = queue.SimpleQueue()
        self._bus.subscribe(
            NAME, MANAGER, "DevicesChanged", ROOT, signal_fired=lambda *args: found.put(args[-1])
        )
        self.call("CountDevices")  # fails if no daemon runs
        with interruptible() as step:
            while True:
                yield [], []
                step()
                while not found.empty():
                    yield found.get()

    def variant(self, value: str | int) -> object:
        """Return a string, a bool, or a number as u, as a D-Bus variant."""
        number = "b" if isinstance(value, bool) else "u"
        return Variant("s" if isinstance(value, str) else number, value)

    def timestamp(self, value: int) -> object:
        """Return microseconds since the epoch as a D-Bus variant."""
        return Variant("t", value)

    def _send(
        self,
        method: tuple[str, str, str],
        parameters: Variant,
        flags: Gio.DBusCallFlags,
        timeout: int,
        sent: Gio.UnixFDList | None,
    ) -> tuple[Any, Any]:
        """Return the reply and its descriptors; not by call_sync, which Ctrl-C would not end."""
        ended: list[Any] = []
        bus = self._bus.con
        bus.call_with_unix_fd_list(
            NAME, *method, parameters, None, flags, timeout * 1000, sent, None,
            lambda _, result: ended.append(result),
        )  # fmt: skip
        with interruptible() as step:
            while not ended:
                step()
        try:
            reply, received = bus.call_with_unix_fd_list_finish(ended[0])
        except GLib.Error as error:
            raise refusal(error.message, ABSENT.get(method[1], ""), sent=True) from None
        return reply, received


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Yield one step of GLib's loop; it raises KeyboardInterrupt after Ctrl-C, whenever that came.

    Python's own handler raises it in the code that runs just then, and in a callback of GLib the
    exception would be lost.  A thread other than the main one is never interrupted.
    """
    interrupted = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set()) if main else None
    context = GLib.MainContext.default()
    # Ctrl-C just before the wait is handled after it, so the wait ends each second.
    timer = GLib.timeout_add_seconds(1, lambda: True)

    def step() -> None:
        context.iteration(True)  # may_block
        if interrupted.is_set():
            interrupted.clear()
            raise KeyboardInterrupt

    try:
        yield step
    finally:
        GLib.source_remove(timer)
        if main:
            signal.signal(signal.SIGINT, before)
    if interrupted.is_set():  # after the last step
        raise KeyboardInterrupt


class BusRefusal(GatewayError):
    """The daemon refused a call, or could not be called.

    name: the name of the D-Bus error.  in_doubt: whether the daemon may have done all the same what
    was asked, or may still do it: the call was sent, and no reply came.
    """

    def __init__(self, name: str, text: str, *, in_doubt: bool = False) -> None:
        super().__init__(text)
        self.name, self.in_doubt = name, in_doubt


def refusal(message: str, absent: str = "", *, sent: bool = False) -> BusRefusal:
    """Return the error in the message of a GLib error, as one sentence.

    absent: what to say instead where the object does not exist, or has not the interface.
    sent: whether a call was sent.
    """
    found = re.match(r"GDBus\.Error:([\w.]+): ", message)
    name, text = (found[1], message[found.end() :]) if found else (NO_BUS, message)
    if name.endswith(NOT_RUNNING):
        text = "gatewayd is not running. See: systemctl status gatewayd"
    elif absent and text.startswith(NOT_THERE):
        text = absent
    in_doubt = sent and (name in UNANSWERED or text.strip() in CUT_SHORT)
    return BusRefusal(name, safe(text.strip()), in_doubt=in_doubt)


def _packed(
    interface: Interface, method: str, arguments: tuple[object, ...]
) -> tuple[Variant, Any]:
    """Return the arguments as one variant, and the list of the descriptors among them."""
    signature = "".join(a.signature for a in interface.info.lookup_method(method).in_args)
    sent = Gio.UnixFDList.new()
    descriptors = interface.descriptors[method]
    values = (sent.append(a) if i in descriptors else a for i, a in enumerate(arguments))
    return Variant(f"({signature})", tuple(values)), sent if descriptors else None


def _unpacked(
    interface: Interface,
    method: str,
    values: tuple[Any, ...],
    received: Gio.UnixFDList,
) -> Any:  # noqa: ANN401  # the signature decides
    """Return what a method has returned, with descriptors instead of their indexes in the list."""
    returned = interface.info.lookup_method(method).out_args
    found = [
        received.get(value) if argument.signature == "h" else value
        for argument, value in zip(returned, values, strict=True)
    ]
    return found[0] if len(found) == 1 else tuple(found) or None


PROGRAM = "pkttyagent"
READY_TIMEOUT = 10.0  # seconds for the agent to be ready; then the call is made without it
STOP_TIMEOUT = 5.0  # seconds for the agent to end after SIGTERM
BUS_VARIABLE = "DBUS_SYSTEM_BUS_ADDRESS"


def password_agent(address: str, environ: Mapping[str, str]) -> AbstractContextManager[None]:
    """Return a context in which an agent runs, if one is installed and useful.

    address: of the bus on which polkit is, or "system".  environ: of the process.
    """
    program = shutil.which(PROGRAM, path=environ.get("PATH"))
    if program is None or not is_useful(os.geteuid(), on_terminal=os.isatty(0)):
        return nullcontext()
    return running(program, environ if address == "system" else {**environ, BUS_VARIABLE: address})


def is_useful(uid: int, *, on_terminal: bool) -> bool:
    """Whether a password may be needed and can be typed: polkit never asks root for one."""
    return uid != 0 and on_terminal


@contextmanager
def running(program: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Run pkttyagent(1) for this process while the context lasts.  Raises GatewayError.

    Another agent of the session, such as a desktop's, takes precedence.
    """
    agent = _started(program, environ)
    try:
        yield
    finally:
        agent.terminate()
        try:
            agent.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()


def _started(program: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start an agent; wait until it has registered or ended, which closes its end of a pipe."""
    ready, notify = os.pipe()
    try:
        words = (program, "--notify-fd", str(notify), "--fallback")
        agent = subprocess.Popen(words, pass_fds=(notify,), env=environ)  # noqa: S603  # a program found in PATH, no text of a caller
    except OSError as error:
        os.close(ready)
        raise GatewayError(
            f"{program} cannot be run: {error.strerror}. Use --no-ask-password to do without it"
        ) from error
    finally:
        os.close(notify)
    select.select([ready], [], [], READY_TIMEOUT)
    os.close(ready)
    return agent
