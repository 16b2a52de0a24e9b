"""The fields that packets of MQTT 3.1.1 are made of.  Pure.

Sections are those of the OASIS standard "MQTT Version 3.1.1".
"""

from __future__ import annotations


class MalformedPacket(Exception):
    """The peer sent what is not spoken here: close the connection (4.8)."""


class Reader:
    """Takes fields off the front of a packet's body.  Each method raises MalformedPacket."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    @property
    def left(self) -> int:
        """How many bytes were not taken yet."""
        return len(self._body) - self._at

    def take(self, count: int) -> bytes:
        """Take so many bytes."""
        if count > self.left:
            raise MalformedPacket("ends too early")
        self._at += count
        return self._body[self._at - count : self._at]

    def byte(self) -> int:
        """Take one byte as a number."""
        return self.take(1)[0]

    def word(self) -> int:
        """Take two bytes as a number, the higher first (1.5.2)."""
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        """Take bytes that follow their length (3.1.3.5)."""
        return self.take(self.word())

    def packet_id(self) -> int:
        """Take a packet identifier, which is never 0 (2.3.1)."""
        if not (number := self.word()):
            raise MalformedPacket("packet identifier 0")
        return number

    def text(self) -> str:
        """Take a UTF-8 string, which holds no U+0000 and no surrogate (1.5.3)."""
        try:
            text = self.binary().decode()
        except UnicodeDecodeError:
            raise MalformedPacket("text is no UTF-8") from None
        if "\0" in text:
            raise MalformedPacket("text with U+0000")
        return text

    def topic(self) -> str:
        """Take a topic name or filter, which is never empty (4.7.3)."""
        if not (topic := self.text()):
            raise MalformedPacket("empty topic")
        return topic
