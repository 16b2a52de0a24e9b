"""The log: to the journal with fields, or to stderr.  Neither is waited for.

What the journal does not read is kept, within bounds, and sent by `flush` once it reads again; what
exceeds the bounds is counted.  So a journal that hangs stops no thread of the daemon.

A record's `extra` may hold the keys of FIELDS; each becomes a journal field.
`message_id` in it names an entry of MESSAGE_IDS, which packaging/catalog/gatewayd.catalog explains:
`journalctl -x` prints the explanation beneath the entry, `journalctl MESSAGE_ID=…` finds all of one
kind.  An event of a child has its entry by EVENT_MESSAGES.
`once` in it names a cause: the record is dropped if the same logger has logged the same cause of
the same device before.
Control characters are escaped.  The text of an exception is never logged, as it may hold data from
the network; its type, and where it was raised, are.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import struct
import sys
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from gatewayd.runtime.datagrams import DatagramSocket
from gatewayd.runtime.text import escaped

MESSAGE_IDS: Mapping[str, str] = {
    "approval-needed": "1330c740f4ca4ff8be0fa64c3833cb08",
    "identity-conflict": "a4a99710852b4ea8a2bd102ad1fd9fc2",
    "device-registered": "ea6150cf8e40465e810356c86a130dbb",
    "registration-refused": "a5060083d5ba4158b9948635ac0eb841",
    "already-activated": "bfeec8f36af14713882e8c95ffc68912",
    "device-rejected": "cdcbbde4cbd84300b67cbb7ffd7ecb1d",
    "device-retired": "060e358b374f4df0aef242dc467e53bd",
    "device-frozen": "cbd923e9c9634170bc7d7fb3424d314f",
    "device-moved": "317f14fba3794ad98ba1d11193dabcec",
    "move-refused": "9ff10c7f09b1419ab1b010d6689a6c6a",
    "device-flapping": "b29361db4eee4557a611be1cb63aa34e",
    "session-yielded": "6b179490c65c4a17a5e8e028e2c8abd0",
    "site-quorum-lost": "fd198b835afd471a9db4dfa99168c1f9",
    "site-quorum-recovered": "d01edaaf009f4ff6b385d2f1ec5715fb",
    "site-stopped": "c394edf933c54d768cd466cd05ae843f",
    "site-taken-over": "e07853122a8d449cbf5c3b4567e11a22",
    "site-member-waits": "c4676b5b137b455f8614d52fdb2e1e83",
    "secret-lost": "e0aa4fd2db0c4fd5b75fc0303bc04628",
    "secret-damaged": "b7b5fb9b57f24400b91ee86edfb1f4d6",
    "store-sealed": "4d2b0f113cd14bc4830363f1095f95a1",
    "store-cloned": "8737ab14406541bfae58be6a17fd0f8f",
    "rollback-suspected": "f48e39e729dc4b38a681b80682d459aa",
    "clock-not-set": "5a44c6cbff854d938201eeea4268edc2",
    "clock-set": "3de2f200e7d34022894a9c6fa494b984",
    "disk-not-writable": "d8a8c542d4964ea996ce06cc87a7bd11",
    "disk-writable": "4bfaa381d5a94164afc3048757cc5866",
    "store-degraded": "760bcac48032437e96aed62ede052c5b",
    "join-window-opened": "efd883ad4abd49448351a2008db97c11",
    "join-window-closed": "733335265a9045778a563ef17d5ee4f4",
    "lan-flooded": "abb30f6d44e04503b58f943c51c6f7a4",
    "bus-lost": "8c1f0a1b7c3d4c0c9d0f6a4c0f6f7e15",
    "bus-flooded": "5b6d4f2e9a8447d5b1c7d3a0e2f49c68",
    "not-authorized": "9bc1686639d146e9942b4aca50bd0d53",
    "configuration-rejected": "172feecf44134d56ba59954a6cc6ed67",
    "broker-unread": "98664baabe0c419fa324f1136baa3cd6",
    "broker-read": "5a3fb8bd39214729858aac6240f07da4",
    "messages-blocked": "1ad9df0ef4e34bac9ba5f0c22e2c7b15",
    "messages-disk-full": "8fbd6f1af0ab4ffda89bd3bdb4e6a6cb",
    "messages-lost": "da4fa536047446deb57b9c2e001a6d79",
    "messages-dropped": "3bf39d80365b4b8da1b23a2ca7e766a5",
    "messages-recovered": "a5f6cfe85830425596553deba15341e3",
}
"""MESSAGE_ID of each entry.  An id never changes its meaning."""

EVENT_MESSAGES: Mapping[str, str] = {
    "Held": "approval-needed",
    "Held identity-conflict": "identity-conflict",
    "RegistrationRefused": "registration-refused",
    "RegistrationRefused cloud-not-authorised": "already-activated",
    "SecretLost": "secret-lost",
    "Rejected": "device-rejected",
    "Retired": "device-retired",
    "Frozen": "device-frozen",
}
"""The entry of an event of the life cycle, or of an event with the code of its reason."""


def message_id(name: str, event: str = "", reason: str = "") -> str:
    """Return the MESSAGE_ID of an entry by its name, or else by event and reason; "" for none."""
    name = name or EVENT_MESSAGES.get(f"{event} {reason}") or EVENT_MESSAGES.get(event, "")
    return MESSAGE_IDS.get(name, "")


IDENTIFIER = "gatewayd"
MAX_MESSAGE = 2000
MAX_CAUSES = 512
MAX_WAITING = 2000
"""Entries that wait for a journal that does not read."""
MAX_WAITING_BYTES = 1 << 20
_MAX_CHAIN = 4

FIELDS: Mapping[str, str] = {
    "device": "GATEWAYD_DEVICE",
    "provider": "GATEWAYD_PROVIDER",
    "state": "GATEWAYD_STATE",
    "reason": "GATEWAYD_REASON",
    "attempt": "GATEWAYD_ATTEMPT",
    "rule": "GATEWAYD_RULE",
    "address": "GATEWAYD_ADDRESS",
    "event": "GATEWAYD_EVENT",
}
"""The journal field of each key of `extra`."""

QUOTING = ("zeroconf", "asyncssh")
"""Libraries that are silenced, since their warnings quote packets unescaped."""

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


JOURNAL = "/run/systemd/journal/socket"
PIPE_BUF = 4096  # bytes that a pipe takes whole where poll(2) says that it takes any: pipe(7)
PASSING = frozenset({
    errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN,
})  # fmt: skip
"""Errors of a journal that does not read, or is started again; for others, an entry is lost."""

SendEntry = Callable[[bytes], object]
"""Sends one entry to the journal without waiting.  Raises OSError."""


def packed(entry: Mapping[str, str | int]) -> bytes:
    """Return an entry in systemd's "Native Journal Protocol".

    A value of several lines has its length before it.
    """
    parts = []
    for name, value in entry.items():
        data = str(value).encode("utf-8", "backslashreplace")
        several = struct.pack("<Q", len(data)) if b"\n" in data else b""
        parts += [name.encode(), b"\n" + several if several else b"=", data, b"\n"]
    return b"".join(parts)


def setup(level: str, handler: logging.Handler) -> None:
    """Log to one handler: gatewayd from this level on, libraries from warnings on.

    level: of `set_level`.  Replaces all other handlers.
    """
    handler.addFilter(OncePerCause())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in QUOTING:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    set_level(level)


def set_level(level: str) -> None:
    """Set the level of gatewayd: "debug", "info", "warning" or "error"."""
    logging.getLogger(IDENTIFIER).setLevel(level.upper())


def level() -> str:
    """Return the level from which gatewayd logs now, in the words of `set_level`."""
    return logging.getLevelName(logging.getLogger(IDENTIFIER).getEffectiveLevel()).lower()


SYSLOG_LEVELS: Mapping[str, str] = {
    "debug": "debug", "info": "info", "notice": "warning", "warning": "warning", "err": "error",
    "crit": "critical", "alert": "critical", "emerg": "critical",
}  # fmt: skip
"""The levels of syslog(3), each with the level for `set_level` that logs no more than it."""


def syslog_level() -> str:
    """Return the level from which gatewayd logs now, in the words of syslog(3)."""
    level = logging.getLogger(IDENTIFIER).getEffectiveLevel()
    names = {"WARNING": "warning", "ERROR": "err", "CRITICAL": "crit", "DEBUG": "debug"}
    return names.get(logging.getLevelName(level), "info")


def handler() -> logging.Handler:
    """Return the handler that fits how this process was started."""
    if under_journal(os.environ, sys.stderr):
        journald = DatagramSocket(JOURNAL)
        return JournalHandler(journald.send, journald.close)
    return StderrHandler(sys.stderr)


def flush() -> bool:
    """Send what waits for the journal; return whether anything waits further."""
    handlers = logging.getLogger().handlers
    for one in handlers:
        one.flush()
    return any(isinstance(one, JournalHandler) and one.is_waiting for one in handlers)


def under_journal(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Whether the stream goes to the journal: systemd.exec(5), $JOURNAL_STREAM."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"


class JournalHandler(logging.Handler):
    """A handler that writes to the journal, with the fields of systemd.journal-fields(7).

    The oldest entries are kept, as they say what went wrong first.
    hang_up: called when the handler is closed.
    """

    def __init__(self, send: SendEntry, hang_up: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._send, self._hang_up = send, hang_up
        self._waiting: deque[bytes] = deque()
        self._bytes = self._lost = 0
        self._stuck = False

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, or let it wait."""
        try:
            text = message(record)
        except (ValueError, TypeError):  # the arguments of a log call do not fit its text
            text = f"Failed to format a log entry: {record.msg!r}"
        self._add(packed({"MESSAGE": text, **fields(record)}))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the journal reads it."""
        with self.lock or contextlib.nullcontext():
            while self._waiting and self._sent(self._waiting[0]):
                self._bytes -= len(self._waiting.popleft())
            if self._waiting:
                self._stuck = True
            elif self._stuck or self._lost:
                self._report()

    @property
    def is_waiting(self) -> bool:
        """Whether entries wait."""
        return bool(self._waiting)

    def close(self) -> None:
        """Send what can be sent, and hang up."""
        self.flush()
        self._hang_up()
        super().close()

    def _add(self, entry: bytes) -> None:
        full = len(self._waiting) >= MAX_WAITING or self._bytes + len(entry) > MAX_WAITING_BYTES
        if full:
            self._lost += 1
        else:
            self._waiting.append(entry)
            self._bytes += len(entry)

    def _sent(self, entry: bytes) -> bool:
        """Whether this entry need not wait any more."""
        try:
            self._send(entry)
        except OSError as error:
            if error.errno in PASSING:
                return False
            self._lost += 1
        return True

    def _report(self) -> None:
        """Log that the journal reads again; if that fails, at the next entry."""
        text = f"The journal reads again: {self._lost} entries of gatewayd were lost meanwhile."
        about = {"SYSLOG_IDENTIFIER": IDENTIFIER, "PRIORITY": str(_priority(logging.WARNING))}
        with contextlib.suppress(OSError):
            self._send(packed({"MESSAGE": text, **about}))
            self._stuck, self._lost = False, 0


class StderrHandler(logging.StreamHandler[TextIO]):
    """A handler that writes a line for each record, with the device that it concerns.

    What a pipe or a terminal does not take at once is dropped, and counted.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lost, self._file = 0, _file_number(stream)
        self._poll = select.poll()
        if self._file is not None:
            self._poll.register(self._file, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if self._file is None:  # in memory
            super().emit(record)
            return
        lines = f"{self.format(record)}\n"
        if self._lost:
            lines = f"warning: {self._lost} log lines were lost, as they were not read\n{lines}"
        written = self._write(self._file, lines.encode("utf-8", "backslashreplace"))
        self._lost = 0 if written else self._lost + 1

    def _write(self, file: int, data: bytes) -> bool:
        """Write without waiting; return whether all was written."""
        for start in range(0, len(data), PIPE_BUF):
            if not self._poll.poll(0):
                return False
            try:
                os.write(file, data[start : start + PIPE_BUF])
            except OSError:  # the reader is gone
                return False
        return True

    def format(self, record: logging.LogRecord) -> str:
        """Return "level: device: message", or "level: message" if that names the device."""
        device, text = escaped(str(getattr(record, "device", ""))), message(record)
        parts = (record.levelname.lower(), "" if device in text else device, text)
        return ": ".join(part for part in parts if part)


def _file_number(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # in memory
        return None


class OncePerCause(logging.Filter):
    """A filter that passes the first record of a cause.  Remembers the newest `limit` causes."""

    def __init__(self, limit: int = MAX_CAUSES) -> None:
        super().__init__()
        self._limit = limit
        self._causes: OrderedDict[Hashable, None] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record names no cause, or a new one."""
        cause = getattr(record, "once", None)
        if cause is None:
            return True
        return self.first((record.name, getattr(record, "device", ""), cause))

    def first(self, cause: Hashable) -> bool:
        """Whether this cause is not among the newest ones; remember it."""
        known = cause in self._causes
        self._causes[cause] = None
        self._causes.move_to_end(cause)
        if len(self._causes) > self._limit:
            self._causes.popitem(last=False)
        return not known


def fields(record: logging.LogRecord) -> dict[str, str | int]:
    """Return the journal fields of a record."""
    extra = {name: getattr(record, key, None) for key, name in FIELDS.items()}
    entry = (getattr(record, key, "") for key in ("message_id", "event", "reason"))
    extra["MESSAGE_ID"] = message_id(*entry)
    about = {name: escaped(str(value)) for name, value in extra.items() if value not in (None, "")}
    return {
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "PRIORITY": _priority(record.levelno),
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": record.lineno,
        "CODE_FUNC": record.funcName or "",
        **about,
    }


def message(record: logging.LogRecord) -> str:
    """Return the sentence of a record, followed by the traceback of its exception, if any."""
    text = escaped(record.getMessage()[:MAX_MESSAGE])
    error = record.exc_info[1] if record.exc_info else None
    return "\n".join((text, *(_raised(error) if error else ())))


def _priority(level: int) -> int:
    return next((priority for least, priority in _PRIORITIES if level >= least), _DEBUG)


def _raised(error: BaseException | None) -> Iterator[str]:
    """Yield the types of an exception and of its causes, and their frames, without any value."""
    for _ in range(_MAX_CHAIN):
        if error is None:
            return
        yield f"{type(error).__name__} at"
        for frame in traceback.extract_tb(error.__traceback__):
            yield f"  {Path(frame.filename).name}:{frame.lineno} {frame.name}"
        error = error.__cause__ or error.__context__
