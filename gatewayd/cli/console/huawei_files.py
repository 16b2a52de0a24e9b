"""What the commands of Huawei's console read and run: a device CA, its key's proof, and secrets."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import select
import shlex
import subprocess
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path

from gatewayd.ca.authority import read_authority
from gatewayd.ca.certificates import Validity, read_certificates, to_pem
from gatewayd.ca.keys import is_locked, unlock
from gatewayd.cli.command import MAX_PEM, read_file, read_passphrase, replace_file
from gatewayd.cloud.huawei.subject import full_name, subject_of
from gatewayd.console.access_key import read_private
from gatewayd.console.huawei.setting_up import DeviceCaFile, Prove
from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError, GatewayError

PROOF_TIMEOUT = 120.0
"""Seconds for the command that makes a proof, which may be at the other end of a slow line."""
SECRET_LENGTH = 32
"""Characters of a device's secret, at most, and of one that is made here."""
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_SECRET = re.compile(rb"[A-Za-z0-9_-]{8,32}")
_KEY = b"PRIVATE KEY-----"


def read_ca(path: Path) -> DeviceCaFile:
    """Return the certificate of a device CA; a key beside it is not read.  Raises GatewayError."""
    (found,) = read_certificates(_only(path, "that of the CA, as gatewayctl ca make prints it"))
    names = subject_of(found.subject)[full_name("common_name")]
    ends = Validity.of(found).ends.strftime("%Y%m%dT%H%M%SZ")
    return DeviceCaFile(to_pem(found), "".join(names[:1]), ends)


def _only(path: Path, wanted: str) -> bytes:
    """Return the content of a file with one certificate.  Raises GatewayError.  wanted: which."""
    content = read_file(path, MAX_PEM)
    if (count := len(read_certificates(content))) != 1:
        raise ConsoleError(
            f"The certificate cannot be used: {path} has {count}, and not one. Use a PEM file with "
            f"{wanted}"
        )
    return content


def add_proof(parser: ArgumentParser, *, required: bool) -> None:
    """Add the options that say how possession of a CA's key is proved."""
    way = parser.add_mutually_exclusive_group(required=required)
    way.add_argument(
        "--proof", type=Path, metavar="FILE",
        help="certificate that gatewayctl huawei ca prove has printed for the verification code",
    )  # fmt: skip
    way.add_argument(
        "--prove-with", metavar="COMMAND",
        help="command that prints it when the code is added, as "
        '"ssh gateway-1 gatewayctl huawei ca prove"',
    )  # fmt: skip
    way.add_argument(
        "--ca-key", type=Path, metavar="FILE",
        help="key and certificate of the CA, PEM, where it was made here",
    )  # fmt: skip
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE",
        help="file with the passphrase of that key (default: ask for it)",
    )  # fmt: skip


def prover(arguments: Namespace, environ: Mapping[str, str] = os.environ) -> Prove | None:
    """Return what makes the proof, by the options of `add_proof`; None without any of them.

    Files are read at once.  environ: of the command.  Raises GatewayError.
    """
    if arguments.proof is not None:
        wanted = "what gatewayctl huawei ca prove has printed"
        (found,) = read_certificates(_only(arguments.proof, wanted))
        proof = to_pem(found)

        async def given(_code: str) -> str:
            return proof

        return given
    if arguments.ca_key is not None:
        key = _authority_key(arguments)

        async def made(code: str) -> str:
            authority = await asyncio.to_thread(read_authority, key)
            return to_pem(await asyncio.to_thread(authority.prove, code, time.time()))

        return made
    if arguments.prove_with is not None:
        words = _words(arguments.prove_with)
        own = {name: one for name, one in environ.items() if name != "CREDENTIALS_DIRECTORY"}
        return lambda code: _run(words, code, own)
    return None


def _authority_key(arguments: Namespace) -> Secret:
    data = read_file(arguments.ca_key, MAX_PEM)
    if _KEY not in data:
        raise ConsoleError(
            f"The proof cannot be made: {arguments.ca_key} has no private key. Use the file that "
            "gatewayctl ca import takes, or --prove-with where the key is at a gateway"
        )
    if is_locked(data):
        data = unlock(data, read_passphrase(arguments, "the CA's key"))
    return Secret(data)


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        raise ConsoleError(
            "The proof cannot be made: --prove-with is no command. Quote it as a shell wants it"
        )
    return words


async def _run(words: list[str], code: str, environ: Mapping[str, str]) -> str:
    """Return the certificate that a command prints for a code.  Raises ConsoleError.

    What it says otherwise is the operator's to see.  A shell at the other end, as that of ssh,
    would read the code, so it may have no character that means anything there, nor be an option.
    """
    if not _CODE.fullmatch(code):
        raise ConsoleError(
            "The proof is not requested: the verification code has odd characters. Make it with "
            "gatewayctl huawei ca prove, and use --proof"
        )
    printed = await asyncio.to_thread(_printed, words, code, environ)
    try:
        return to_pem(read_certificates(printed)[0])
    except (GatewayError, IndexError):
        raise _failed(words, "no certificate is printed") from None


def _printed(words: list[str], code: str, environ: Mapping[str, str]) -> bytes:
    """Return what a command prints, and end it in any case.  Blocks.  Raises ConsoleError.

    What it has started may hold the pipe for longer: nothing is waited for beyond the limit.
    """
    end = time.monotonic() + PROOF_TIMEOUT
    try:
        process = subprocess.Popen(  # noqa: S603  # the operator has named it, and no shell reads it
            [*words, code], env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
    except OSError as error:
        raise _failed(words, f"{error.strerror}") from None
    try:
        assert process.stdout is not None, "a pipe was asked for"
        printed = _read(words, process.stdout.fileno(), end)
        status = process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _late(words) from None
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if status:
        raise _failed(words, f"exit status {status}")
    return printed


def _read(words: list[str], pipe: int, end: float) -> bytes:
    """Return what comes through a pipe until its end.  Raises ConsoleError.  end: monotonic."""
    printed = b""
    while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
        more = os.read(pipe, MAX_PEM)
        if not more:
            return printed
        printed += more
        if len(printed) > MAX_PEM:
            raise _failed(words, "too much is printed")
    raise _late(words)


def _late(words: list[str]) -> ConsoleError:
    return _failed(words, f"no answer within {PROOF_TIMEOUT:.0f} seconds")


def _failed(words: list[str], why: str) -> ConsoleError:
    return ConsoleError(
        f"The proof was not made: {words[0]}: {why}. Try the command by itself, with the code that "
        "gatewayctl console huawei ca list shows"
    )


def device_secret(path: Path, *, dry_run: bool) -> Secret:
    """Return the secret of a device in a file that only its owner can read.

    Where there is no such file, it is made, with a random secret, before the platform learns of it.
    dry_run: whether no file is made; the secret is another each time then.
    Raises GatewayError.
    """
    if not path.exists():
        made = secrets.token_hex(SECRET_LENGTH // 2)
        if not dry_run:
            replace_file(path, f"{made}\n".encode())
        return Secret(made.encode())
    content = read_private(path, "device's secret").strip()
    if not _SECRET.fullmatch(content):
        raise ConsoleError(
            f"The device's secret cannot be used: {path} does not hold one. It has 8 to "
            f"{SECRET_LENGTH} letters, digits, _ and -"
        )
    return Secret(content)
