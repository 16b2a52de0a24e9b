"""The certificates that `gatewayctl certificate import` is given: by options, or by a manifest.

A manifest is a file of TOML with a table [[certificate]] for each device; what may stand in one are
the fields of ImportEntry.  Keys are opened here, so that no passphrase reaches the daemon.
"""

from __future__ import annotations

import getpass
import os
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gatewayd.ca.bundle import Bundle, needs_passphrase, read_bundle
from gatewayd.cli.command import MAX_PEM, NOTHING_DONE, read_file, typed
from gatewayd.cloud.credentials import credentials_directory, passphrase_in, read_secret
from gatewayd.errors import ConfigError, GatewayError, InvalidArgs
from gatewayd.settings.build import SettingsBuilder
from gatewayd.settings.declare import REQUIRED, setting
from gatewayd.settings.files import Problems, read
from gatewayd.settings.grammar import credential_name

MAX_ENTRIES = 10_000
_PEM = "-----BEGIN "


@dataclass(frozen=True, slots=True)
class ImportEntry:
    """One certificate of a manifest.  Files are relative to the manifest."""

    certificate: str = setting(
        REQUIRED,
        "file with the certificate, and those above it, PEM; or all of it as PKCS #12; or the PEM "
        "text itself",
    )
    key: str = setting("", "file with the private key, PEM, or that text (default: in certificate)")
    passphrase_file: str = setting("", "file with the passphrase of the key")
    passphrase_credential: str = setting(
        "", "name of the systemd credential with it", grammar=credential_name
    )
    cloud: str = setting("", "name of the cloud (default: that of --cloud)")
    id: str = setting("", "id of the device (default: what the certificate says)")
    product: str = setting("", "product of the device at the cloud, in place of id")
    node_id: str = setting("", "its name there, which Huawei calls the node ID")
    device_id: str = setting("", "device ID of a device that was created at Huawei by hand")

    def problems(self) -> Sequence[str]:
        """Return what is wrong, one sentence each."""
        found = []
        if bool(self.product) != bool(self.node_id):
            found.append("product and node_id need each other")
        if self.id and self.product:
            found.append("id and product exclude each other")
        if self.passphrase_file and self.passphrase_credential:
            found.append("passphrase_file and passphrase_credential exclude each other")
        return found

    @property
    def shown(self) -> str:
        """How it is named in an error: by its file."""
        return "the certificate" if self.certificate.startswith(_PEM) else self.certificate


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest."""

    certificate: tuple[ImportEntry, ...] = setting(REQUIRED, "the certificates")

    def problems(self) -> Sequence[str]:
        """Return what is wrong, one sentence each."""
        most = f"there are more than {MAX_ENTRIES} certificates: use several manifests"
        return [most] if len(self.certificate) > MAX_ENTRIES else []


def read_manifest(path: Path) -> Sequence[ImportEntry]:
    """Return the entries of a manifest, with the paths of their files.  Raises ConfigError."""
    problems = Problems()
    document = read(path, problems)
    problems.check()
    assert document is not None, "else there is a problem"
    texts = list(_taken_out(document.table.get("certificate")))
    made = SettingsBuilder(document, problems).build(Manifest, document.table, ())
    problems.check()
    assert made is not None, "else there is a problem"
    return [_within(path.parent, one, texts) for one in made.certificate]


def _taken_out(rows: object) -> Iterator[str]:
    """Take the PEM texts out of a manifest, and yield them: settings have no such texts.

    Their places among them stand in their stead.
    """
    found = 0
    for row in rows if isinstance(rows, list) else ():
        for key in ("certificate", "key"):
            text = row.get(key) if isinstance(row, dict) else None
            if isinstance(text, str) and text.lstrip().startswith(_PEM):
                yield text.lstrip()
                row[key] = f"{_PEM}{found}"
                found += 1


def _within(folder: Path, entry: ImportEntry, texts: Sequence[str]) -> ImportEntry:
    def content(text: str) -> str:
        if text.startswith(_PEM):
            return texts[int(text.removeprefix(_PEM))]
        return str(folder / text) if text else ""

    return replace(
        entry,
        certificate=content(entry.certificate),
        key=content(entry.key),
        passphrase_file=str(folder / entry.passphrase_file) if entry.passphrase_file else "",
    )


@dataclass(slots=True)
class Passphrases:
    """The passphrases of keys: of an option, of an entry, or typed; those typed fit others, too.

    common: for all keys that have none of their own; None for none.  may_ask: whether there is an
    operator.  ask: shows a prompt, and returns what was typed.
    """

    common: bytes | None
    may_ask: bool
    ask: Callable[[str], str] = getpass.getpass
    _typed: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, arguments: Namespace, *, may_ask: bool) -> Passphrases:
        """Return those of the options.  Raises GatewayError."""
        common = None
        if arguments.passphrase_fd is not None:
            common = _from_descriptor(arguments.passphrase_fd)
        elif arguments.passphrase_file is not None:
            common = passphrase_in(read_file(arguments.passphrase_file, MAX_PEM))
        elif arguments.passphrase_credential:
            common = _from_credential(arguments.passphrase_credential)
        return cls(common, may_ask)

    def open(self, entry: ImportEntry) -> Bundle:
        """Return what an entry holds, with its key opened.  Raises GatewayError."""
        certificate, key = _content(entry.certificate), _content(entry.key) if entry.key else b""
        try:
            if not needs_passphrase(certificate, key):
                return read_bundle(certificate, key)
            return self._unlocked(entry, certificate, key)
        except InvalidArgs as error:
            raise GatewayError(f"{entry.shown}: {error}") from error

    def _unlocked(self, entry: ImportEntry, certificate: bytes, key: bytes) -> Bundle:
        given = self._given(entry)
        if given is not None:
            return read_bundle(certificate, key, given)
        for known in (None, *self._typed):
            try:
                return read_bundle(certificate, key, known)
            except InvalidArgs:
                continue
        if not self.may_ask:
            raise InvalidArgs(
                "the key has a passphrase: use --passphrase-file, --passphrase-fd or "
                "--passphrase-credential"
            )
        text = typed(self.ask, f"Passphrase of {entry.shown}: ", NOTHING_DONE).encode()
        made = read_bundle(certificate, key, text)
        self._typed.append(text)
        return made

    def _given(self, entry: ImportEntry) -> bytes | None:
        if entry.passphrase_file:
            return passphrase_in(read_file(Path(entry.passphrase_file), MAX_PEM))
        if entry.passphrase_credential:
            return _from_credential(entry.passphrase_credential)
        return self.common


def _content(text: str) -> bytes:
    if text.startswith(_PEM):
        return text.encode("ascii", "replace")
    return read_file(Path(text), MAX_PEM)


def _from_descriptor(number: int) -> bytes:
    try:
        with os.fdopen(number, "rb", closefd=False) as file:
            data = file.read(MAX_PEM + 1)
    except OSError as error:
        raise GatewayError(f"Descriptor {number} cannot be read: {error.strerror}") from error
    if len(data) > MAX_PEM:
        raise GatewayError(f"A passphrase has at most {MAX_PEM} bytes")
    return passphrase_in(data)


def _from_credential(name: str) -> bytes:
    try:
        directory = credentials_directory(os.environ)
        return read_secret(directory, name, None, passphrase=True).reveal()
    except ConfigError as error:
        raise GatewayError(str(error)) from error
