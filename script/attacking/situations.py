"""What strangers and broken neighbours can do, each played on the real daemon or its real parts.

The tests that play them are bounded, on loopback and in namespaces of their own.  This prints one
line for each situation.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TOP = Path(__file__).parents[2]

SITUATIONS: Mapping[str, Sequence[str]] = {
    "floods of mDNS: queries, records, names, forged senders": (
        "tests/integration/test_floods.py", "tests/discovery/mdns/test_traffic.py",
    ),
    "a hostile LAN: text, names, addresses": ("tests/integration/test_hostile_lan.py",),
    "floods of D-Bus: calls, bytes, descriptors, shapes": (
        "tests/integration/test_bus_attacks.py", "tests/dbus/test_intake.py", "tests/dbus/relay",
    ),
    "a cloud that does not read, or sends what it may not": ("tests/cloud/test_mqtt_attacks.py",),
    "a dead cloud beside a healthy one, dead names and addresses": (
        "tests/integration/test_dead_cloud.py", "tests/sessions/test_two_clouds.py",
    ),
    "a disk that is full or read-only at the start, and while it runs": (
        "tests/integration/test_disk_without_writes.py", "tests/integration/test_store_faults.py",
        "tests/integration/test_full_disk.py", "tests/system/test_bad_disk.py",
    ),
    "a clock that is not set": ("tests/sessions/test_clock_not_set.py",),
    "a message bus that goes away": ("tests/integration/test_bus_lost.py",),
    "neighbours that are stopped: TPM, keyring, polkit": (
        "tests/integration/test_stopped_neighbours.py",
    ),
    "neighbours that are stopped: systemd, journal": (
        "tests/runtime/test_systemd.py", "tests/runtime/test_journal.py",
    ),
    "files of the configuration that change": ("tests/integration/test_reread.py",),
    "strings with a grammar": ("tests/settings/test_grammar.py",),
    "a thief of the disk, old copies, another machine": (
        "tests/secretstore/test_attacker.py", "tests/storage/test_record_binding.py",
    ),
    "files of SQLite with tables of others": ("tests/secretstore/vault/test_schema.py",),
    "keys, requests and PEM texts of odd shape": (
        "tests/ca/test_certificates.py", "tests/secretstore/keyslots/test_recovery_keys.py",
    ),
    "hostile arguments for every method of D-Bus": (
        "tests/integration/test_hostile_arguments.py",
    ),
    "callers without permission": (
        "tests/integration/test_bus_polkit.py", "tests/dbus/callers/test_authorization.py",
    ),
}  # fmt: skip
"""The tests that play each of them."""

_SUMMARY = re.compile(r"^\d+ (?:passed|failed|error|skipped).*$", re.MULTILINE)


def play(only: Sequence[str] = ("",)) -> int:
    """Play the situations whose names have one of these texts; return the exit status."""
    failed = 0
    for name, files in SITUATIONS.items():
        if not any(text in name for text in only):
            continue
        began = time.monotonic()
        played = subprocess.run(  # ours, arguments apart
            [sys.executable, "-m", "pytest", "-q", "--no-header", *files],
            cwd=TOP, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = _SUMMARY.findall(played.stdout)
        print(
            f"{name:70} {time.monotonic() - began:6.0f} s  {said[-1] if said else played.stderr}",
            flush=True,
        )
        if played.returncode:
            print(played.stdout)
            failed += 1
    return 1 if failed else 0
