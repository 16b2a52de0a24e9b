"""What must hold after a power cut, of what had been acknowledged before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from gatewayd.device.identity import DeviceId
from gatewayd.device.record import Record
from gatewayd.errors import SecretCorrupt, SecretNotFound
from gatewayd.storage.reconcile import FindingKind, reconcile
from script.soaking.powercut.workload import NOW, Child, Opened, opened

HARMLESS = {FindingKind.COMPLETED, FindingKind.OUTDATED, FindingKind.ORPHAN}


@dataclass(slots=True)
class Promise:
    """What was acknowledged of one child.  going: it is being forgotten, or is."""

    attempt: int = 0
    digest: str = ""
    secret: int = 0
    going: bool = False
    gone: bool = False


def promises(marks: Iterable[bytes]) -> dict[str, Promise]:
    """Sum up what workload.py has acknowledged."""
    made: dict[str, Promise] = {}
    for line in marks:
        kind, child, *rest = json.loads(line)
        promise = made.setdefault(child, Promise())
        match kind:
            case "intent":
                promise.attempt = rest[0]
            case "secret":
                promise.secret, promise.digest = rest
            case "resetting":
                promise.secret, promise.digest = 0, ""
            case "forgetting":
                promise.going = True
            case "forgotten":
                promise.gone = True
    return made


async def broken(directory: Path, made: dict[str, Promise]) -> list[str]:
    """Open what a power cut has left, and return which promises were broken."""
    async with opened(directory) as stores:
        found = [f"{f.kind}: {f.text}" for f in stores.findings if f.kind not in HARMLESS]
        again = await reconcile(stores.thread, stores.state, stores.vault, NOW)
        found += [f"found only at the second look: {f.kind}" for f in again.findings]
        for child, promise in made.items():
            found += [f"{child}: {text}" async for text in _broken(stores, child, promise)]
        newcomer = Child(stores, "newcomer", lambda *_: None)
        await newcomer.admit()
        await newcomer.register(1)
        return found


async def _broken(stores: Opened, child: str, promise: Promise) -> AsyncIterator[str]:
    record = stores.register.get(DeviceId(child))
    slots = list(await stores.thread.run(lambda: stores.vault.refs(DeviceId(child))))
    if promise.gone and (record or slots):
        yield "something is left of what was forgotten"
    if promise.going:
        return
    if record is None:
        yield "it is not on record"
    elif record.attempt < promise.attempt:
        yield f"attempt {promise.attempt} is not on record"
    elif promise.secret and record.stored != promise.secret:
        yield f"secret {promise.secret} is not in use"
    elif promise.secret and not await _opens(stores, record, promise):
        yield f"secret {promise.secret} does not open, or is another one"


async def _opens(stores: Opened, record: Record, promise: Promise) -> bool:
    try:
        secret = await stores.secrets.get(record.slot(promise.secret))
    except (SecretCorrupt, SecretNotFound):
        return False
    return hashlib.sha256(secret.reveal()).hexdigest() == promise.digest
