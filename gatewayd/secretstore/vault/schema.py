"""The tables of vault.db, and how an older file is upgraded to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

VERSION = 4

_SLOT = """CREATE TABLE slot (
        kind TEXT PRIMARY KEY,
        material BLOB NOT NULL
    ) STRICT"""
_COUNTER = """CREATE TABLE counter (
        value INTEGER NOT NULL,
        stamp BLOB NOT NULL
    ) STRICT"""

_BINDING = """CREATE TABLE binding (
        machine BLOB NOT NULL,
        changes INTEGER NOT NULL,
        records INTEGER NOT NULL,
        kid INTEGER NOT NULL,
        nonce BLOB NOT NULL,
        ciphertext BLOB NOT NULL
    ) STRICT"""

SCHEMA = (
    """CREATE TABLE data_key (
        kid INTEGER PRIMARY KEY,
        store BLOB NOT NULL,
        commitment BLOB NOT NULL,
        first INTEGER NOT NULL DEFAULT 0,
        made INTEGER NOT NULL DEFAULT 0,
        heir BLOB NOT NULL DEFAULT x''
    ) STRICT""",
    """CREATE TABLE key_slot (
        kid INTEGER NOT NULL REFERENCES data_key,
        kind TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        nonce BLOB NOT NULL,
        ciphertext BLOB NOT NULL,
        PRIMARY KEY (kid, kind)
    ) STRICT""",
    """CREATE TABLE secret (
        id INTEGER PRIMARY KEY,
        username TEXT NOT NULL,
        service TEXT NOT NULL,
        gen INTEGER NOT NULL,
        kid INTEGER NOT NULL REFERENCES data_key,
        nonce BLOB NOT NULL,
        ct BLOB NOT NULL,
        UNIQUE (username, service)
    ) STRICT""",
    """CREATE TABLE quarantine (
        id INTEGER PRIMARY KEY,
        username TEXT NOT NULL,
        service TEXT NOT NULL,
        gen INTEGER NOT NULL,
        kid INTEGER NOT NULL,
        nonce BLOB NOT NULL,
        ct BLOB NOT NULL,
        why TEXT NOT NULL,
        since INTEGER
    ) STRICT""",
    "CREATE TABLE writes (count INTEGER NOT NULL) STRICT",
    "INSERT INTO writes VALUES (0)",
    _SLOT,
    _COUNTER,
    _BINDING,
)
"""What is in them:

data_key    one generation of the key that encrypts secrets; first: the write it began with,
            made: when, seconds since the epoch; 0 where it is not known,
            heir: a MAC of the newest generation, by the key of this one
slot        what a key slot needs to find its key again
key_slot    a generation, wrapped by a slot
secret      one secret; gen: the number of its write, kid: of its generation
quarantine  what was moved aside; since: when it was first seen there, microseconds
counter     at most one row: the value that the counter in the TPM should have, with a MAC by the
            data key
binding     at most one row: the machine and the records that belong to the vault (binding.py)
"""

_FIRST = slice(1, 6)
"""What of it was in the first version as it is now."""

STEPS: Mapping[int, Sequence[str]] = {
    0: (
        """CREATE TABLE data_key (
            kid INTEGER PRIMARY KEY,
            store BLOB NOT NULL,
            commitment BLOB NOT NULL
        ) STRICT""",
        *SCHEMA[_FIRST],
    ),
    1: (
        "ALTER TABLE data_key ADD COLUMN first INTEGER NOT NULL DEFAULT 0",
        _SLOT,
        "INSERT INTO slot SELECT DISTINCT kind, x'' FROM key_slot",
        _COUNTER,
    ),
    2: (
        "ALTER TABLE data_key ADD COLUMN made INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE data_key ADD COLUMN heir BLOB NOT NULL DEFAULT x''",
    ),
    3: (_BINDING,),
}
"""From each earlier version to the next; from 0 to the first."""
