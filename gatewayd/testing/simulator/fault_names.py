"""The names of faults, and what each one needs.  Plain data."""

from __future__ import annotations

from collections.abc import Mapping

NUMBERS: Mapping[str, tuple[float, float] | None] = {
    "silent": None,
    "hang-up": None,
    "refuse": (1, 5),
    "garbage": None,
    "slow": (0, 3600),
    "hang-up-after-connack": None,
    "no-push": None,
    "late": (0, 3600),
    "secret-then-hang-up": None,
    "answer-twice": None,
    "foreign-name": None,
    "empty-secret": None,
    "bad-json": None,
    "lose-connack": None,
    "down": None,
    "tls-alert": (0, 255),
    "tls-expired": None,
    "tls-foreign": None,
    "tls-misnamed": None,
    "reply": (100, 999_999),
    "partial": (100, 999_999),
    "lose-request": None,
    "lose-reply": None,
    "reply-late": (0, 3600),
    "reply-last": None,
    "reply-twice": None,
    "reply-mixed": None,
    "reply-garbled": None,
    "reply-hang-up": None,
    "refuse-topic": None,
}
"""Every fault, with the range of the number it needs; None where it takes none."""

AT_LOGIN = frozenset(
    {"silent", "hang-up", "refuse", "garbage", "slow", "hang-up-after-connack", "lose-connack"}
)
"""Those that a login can suffer."""

IN_TLS = frozenset(name for name in NUMBERS if name.startswith("tls-"))
"""Those that strike a handshake: the name that a client asks for is the device."""

PARTIAL, SUBSCRIBING = frozenset({"partial"}), frozenset({"refuse-topic"})
WHOLE = frozenset({"reply", "lose-request", "lose-reply", *(n for n in NUMBERS if "reply-" in n)})
"""Those that strike some devices of a request, the topic of its reply, and all of it."""
