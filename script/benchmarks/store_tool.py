"""A program for the code of any revision: fills a state directory, or reads what it holds.

    fill DIRECTORY PRODUCT CHILDREN   children that were registered in an earlier life
    read DIRECTORY                    prints each child's id, and whether all of it is durable

It is run in the directory of that revision, and imports nothing but gatewayd.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from pathlib import Path

from gatewayd.device.identity import Claim, device_id
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.storage.records import RecordDatabase

SECRET_SIZE = 32


def fill(directory: Path, product: str, children: int) -> None:
    """Write so many children, with a secret each, as gatewayd does."""
    now = time.time_ns() // 1000
    secret = Secret(b"x" * SECRET_SIZE)
    with (
        closing(RecordDatabase(directory)) as state,
        closing(Vault(Vault.Settings(key="development-file"), directory)) as vault,
    ):
        for store in (state, vault):
            store.begin()
        for number in range(children):
            record = _record(f"TH20-{number:06X}", product, now)
            state.write(record)
            vault.put(record.slot(record.stored), secret)
        for store in (state, vault):
            store.commit()


def read(directory: Path) -> list[tuple[str, bool]]:
    """Return each child that was to come online, and whether it is activated and has its secret."""
    with (
        closing(RecordDatabase(directory)) as state,
        closing(Vault(Vault.Settings(key="development-file"), directory)) as vault,
    ):
        slots = set(vault.refs())
        return [
            (record.device, bool(record.activated_at) and record.slot(record.stored) in slots)
            for record in state.all()
            if record.verdict is Verdict.ADMITTED
        ]


def _record(serial: str, product: str, now: int) -> Record:
    claims = frozenset({Claim("serial", "_gatewayd-child._tcp", serial.lower())})
    return Record(
        device=device_id(claims, ""), claims=claims, label=serial,
        verdict=Verdict.ADMITTED, admission=Admission.RULE, rule="sensors", reason="",
        cloud=CloudName("alibaba", product, serial), verdict_at=now, first_seen=now,
        attempt=1, attempted_at=now, stored=1, registered_at=now, activating=1, activated_at=now,
    )  # fmt: skip


def main() -> None:
    """Do what the arguments say; print the result as JSON."""
    verb, directory, *rest = sys.argv[1:]
    if verb == "fill":
        fill(Path(directory), rest[0], int(rest[1]))
        print("null")
    else:
        print(json.dumps(read(Path(directory))))


if __name__ == "__main__":
    main()
