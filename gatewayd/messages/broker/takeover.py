"""Takeover: how a user is thrown out of the broker whose certificate was revoked.

mosquitto reads its files again, closes connections whose password is gone, and refuses revoked
certificates; but it looks at the certificate of an open connection no more.  A second connection of
the same client id closes the first (MQTT 3.1.1, 3.1.4), and here the client id is the user name: so
gatewayd connects as that user, with a password of the moment, and leaves no session behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from pathlib import Path

from gatewayd.device.secret import Secret

TRY_AGAIN = 0.25
"""Seconds between two attempts: the broker reads its files a moment after they were written."""

ANSWER_TIMEOUT = 5.0
"""Seconds for the broker's answer."""

_CLEAN_PASSWORD_USER = 0xC2  # flags of CONNECT: clean session, password, user name
_KEEP_ALIVE = 30  # s
_ACCEPTED = 0


async def take_over(socket: Path, name: str, password: Secret, seconds: float) -> bool:
    """Close a user's connection, and remove its session; return whether that was done.

    password: which the broker will know in a moment.  seconds: for all attempts.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not await _attempt(socket, name, password):
                await asyncio.sleep(TRY_AGAIN)
            return True
    return False


async def _attempt(socket: Path, name: str, password: Secret) -> bool:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(_connect_packet(name, password))
                await writer.drain()
                answer = await reader.readexactly(4)
                writer.write(b"\xe0\x00")  # DISCONNECT
                return answer[3] == _ACCEPTED
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, EOFError, TimeoutError):  # it is not there, or hung up
        return False


def _connect_packet(name: str, password: Secret) -> bytes:
    """Return a CONNECT packet (MQTT 3.1.1, 3.1): its client id is the user name.

    Name and password have less than 16 KiB together, so two bytes say the length.
    """
    parts = (name.encode(), name.encode(), password.reveal())
    body = b"\x00\x04MQTT\x04" + bytes((_CLEAN_PASSWORD_USER, 0, _KEEP_ALIVE))
    body += b"".join(struct.pack("!H", len(part)) + part for part in parts)
    return b"\x10" + bytes((len(body) & 0x7F | 0x80, len(body) >> 7)) + body
