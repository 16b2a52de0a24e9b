"""What the fields of a device and of a template may hold.  Pure.

Where the vendor's pages differ, the narrower reading holds: a template's name has no Chinese
letters, and a device's name no space.  Sources: "Create a Device", "Create a Provisioning
Template" of the IoTDA API reference, and the models of the vendor's management SDK.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

MAX_TAGS = 10
_WORD, _CHINESE = r"A-Za-z0-9_\-", "\u4e00-\u9fa5"


@cache
def _pattern(characters: str, longest: int) -> re.Pattern[str]:
    """One for each kind of field: a platform tells of thousands of children at a time."""
    return re.compile(f"[{characters}]{{1,{longest}}}")


@dataclass(frozen=True, slots=True)
class Field:
    """What one field may hold.

    characters: the inside of a character class; `named` says it in words.
    longest, advised: characters; the platform recommends `advised` of them at least.
    """

    characters: str
    named: str
    longest: int
    advised: int = 1

    def fault(self, text: str) -> str:
        """Return what the text must be and is not; "" if it is."""
        if _pattern(self.characters, self.longest).fullmatch(text):
            return ""
        return f"must be 1 to {self.longest} characters: {self.named}"

    def advice(self, text: str) -> str:
        """Return what would be better; "" if nothing."""
        return f"should have at least {self.advised} characters" * (len(text) < self.advised)


_PLAIN = (_WORD, "letters, digits, _ and -")
_TAG = (rf"{_CHINESE}{_WORD}.", "letters, digits, Chinese, _, . and -")
_PROSE = (rf"{_CHINESE}{_WORD}?'#().,&%@!", "letters, digits, Chinese and _?'#().,&%@!-, no space")

NODE_ID = Field(*_PLAIN, 64, advised=4)
PRODUCT_ID = Field(*_PLAIN, 36)
DEVICE_ID = Field(*_PLAIN, 128, advised=4)
DEVICE_NAME = Field(*_PROSE, 256, advised=4)
TAG_KEY = Field(*_TAG, 64)
TAG_VALUE = Field(*_TAG, 128)
TEMPLATE_NAME = Field(*_PLAIN, 128)
DESCRIPTION = Field(*_PROSE, 2048)


def default_device_id(product_id: str, node_id: str) -> str:
    """Return the id that the platform gives a device for which none is chosen.

    It is not to be cut apart again: both may hold the underscore, and a chosen id has no parts.
    """
    return f"{product_id}_{node_id}"
