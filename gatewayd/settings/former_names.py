"""Names that settings and their words had in earlier versions, to those that they have now.

A file with an earlier name is refused, with its line and the name to write in its place: read under
both, it would not say which of the two is meant where it has both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

SETTINGS: Mapping[str, str] = {
    "accept_permit": "allow_permit_join",
    "accept_wanted": "allow_approve",
    "verify_wait": "probe_wait",
    "verify_spread": "probe_spread",
    "verify_gap": "probe_gap",
    "verify_tries": "probe_tries",
    "verify_timeout": "probe_timeout",
    "verify_at_once": "probe_at_once",
    "max_keys": "max_queued",
    "unlisted": "preregistration_free",
    "securemode_unlisted": "securemode_preregistration_free",
    "tell_found": "report_found",
}

GONE: Mapping[str, str] = {
    "flood_pause": "discovery no longer pauses after a flood",
}
"""Settings that are no more, and why."""

WORDS: Mapping[str, str] = {"heard": "claimed"}
"""Words of a choice."""


def renamed(key: str, known: Collection[str]) -> str:
    """Return what became of a setting, with what to do; "" if it never had this name.

    known: the settings of its table.
    """
    if (new := SETTINGS.get(key)) in known:
        return f"it is called '{new}' now: rename it"
    if key in GONE:
        return f"{GONE[key]}: remove it"
    return ""


def renamed_word(word: object, choices: Collection[str]) -> str:
    """Return the word that stands for an earlier one; "" if there is none."""
    new = WORDS.get(word, "") if isinstance(word, str) else ""
    return new if new in choices else ""
