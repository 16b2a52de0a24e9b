"""The device CA of one cloud, as an operator sees it: made, imported, shown, and what it signs.

Serves the port `AuthorityCommands`, which has the contracts.  No private key leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from gatewayd.cloud.ca.authority import Authority, authority_name, make_authority, read_authority
from gatewayd.cloud.ca.certificates import MAX_BYTES, to_pem
from gatewayd.cloud.ca.keys import ALGORITHMS
from gatewayd.cloud.ca.store import NO_AUTHORITY, AuthorityGeneration, AuthoritySlots
from gatewayd.cloud.provider import CertificateIssuer
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret, SecretRef, SecretSlots
from gatewayd.errors import InvalidArgs, StoreError, WrongState

log = logging.getLogger(__name__)

Options: TypeAlias = Mapping[str, object]
Facts: TypeAlias = Mapping[str, "str | int | bool | Sequence[str]"]

KIND = "authority"
DAYS, MOST_DAYS = 3650, 36500
LOOK = 6 * 3600.0
"""Seconds between two looks at how long a CA is still good for."""
PATIENCE = 5.0
"""Seconds to wait for each part of a CA that is handed in: few can be read at a time."""
NAMES = ("common-name", "organization", "organizational-unit", "country", "state")
_MICRO = 1_000_000


def slots_of(provider: str, store: SecretSlots) -> AuthoritySlots:
    """Return where the authority of a provider is kept, in slots that are no child's."""
    device = DeviceId(f"{KIND}-{provider}")

    def slot(generation: int) -> SecretRef:
        return SecretRef(provider, device, generation, KIND)

    async def generations() -> Sequence[int]:
        return [ref.attempt for ref in await store.refs(device) if ref == slot(ref.attempt)]

    return AuthoritySlots(
        generations,
        lambda generation: store.get(slot(generation)),
        lambda generation, secret: store.put(slot(generation), secret),
    )


class AuthorityService:
    """Serves the port `AuthorityCommands` for one provider.

    resolve: an id as a caller gave it → the device.  named: its name at the cloud, if it has one.
    renew: has a device's certificate replaced; False where it is not online.
    """

    def __init__(
        self,
        provider: str,
        issuer: CertificateIssuer,
        resolve: Callable[[str], DeviceId],
        named: Callable[[DeviceId], CloudName | None],
        renew: Callable[[DeviceId], bool],
    ) -> None:
        self._provider, self._issuer, self._keeper = provider, issuer, issuer.authority
        self._resolve, self._named, self._renew = resolve, named, renew

    async def watch(self) -> None:
        """Look at the CA now and then, so that its end does not come as a surprise."""
        while True:
            with contextlib.suppress(StoreError):  # whoever wants to use the CA is told
                await self._keeper.look()
            await asyncio.sleep(LOOK)

    async def make(self, options: Options, caller: str) -> str:
        _known(options, {*NAMES, "algorithm", "days", "replace"})
        words = {"common-name": f"{self._provider} device CA"} | {
            name: _text(options, name) for name in NAMES if _text(options, name)
        }
        algorithm = _text(options, "algorithm") or "rsa-2048"
        if algorithm not in ALGORITHMS:
            raise InvalidArgs(f"algorithm must be one of {', '.join(ALGORITHMS)}")
        days, replace = _days(options) or DAYS, options.get("replace", False)
        if not isinstance(replace, bool):
            raise InvalidArgs("replace must be a truth")
        subject = authority_name(words)
        now = self._keeper.wall()
        made = await asyncio.to_thread(make_authority, subject, algorithm, days, now)
        return await self._keep(made, caller, "made", replace=replace)

    async def import_authority(self, source: int, caller: str) -> str:
        data = await asyncio.to_thread(_read, source)
        authority = await asyncio.to_thread(read_authority, Secret(data))
        if fault := authority.span.fault(self._keeper.wall()):
            raise InvalidArgs(f"The certificate of the CA {fault}")
        return await self._keep(authority, caller, "imported", replace=True)

    async def prove(self, code: str, caller: str) -> str:
        held = await self._keeper.demand()
        proof = await asyncio.to_thread(held.authority.prove, code, self._keeper.wall())
        log.info("Possession of the device CA of %s proven for %s.", self._provider, caller)
        return to_pem(proof)

    async def issue(self, device: str, request: str, options: Options, caller: str) -> str:
        _known(options, {"product", "node-id", "days"})
        name = self._subject_of(device, _text(options, "product"), _text(options, "node-id"))
        if not request:
            raise InvalidArgs(
                "A request is wanted: the key of a child is made when it is registered or renewed"
            )
        data = request.encode("ascii", "replace")
        chain = await self._issuer.certify(data, name, _days(options))
        log.info("A certificate of %s was issued for %s.", self._provider, caller)
        return chain

    async def show(self) -> Facts:
        held = await self._keeper.current()
        if held is None:
            told = NO_AUTHORITY
            return {"Present": False, "Explanation": told.text, "Remedy": told.remedy}
        return _facts(held, self._keeper.wall())

    async def renew(self, device: str, caller: str) -> None:
        child, _ = self._child(device)
        if not self._renew(child):
            raise WrongState(f"Device {child} is not online with a certificate of its own")
        log.info("Renewal asked for by %s.", caller, extra={"device": child})

    async def _keep(self, authority: Authority, caller: str, how: str, *, replace: bool) -> str:
        held = await self._keeper.keep(authority, replace=replace)
        log.info(
            "Device CA of %s %s by %s: generation %d, SHA-256 %s.",
            self._provider, how, caller, held.generation, authority.fingerprint,
        )  # fmt: skip
        return authority.pem

    def _subject_of(self, device: str, product: str, node_id: str) -> CloudName | None:
        """Return whose subject a certificate gets; None for that of the request."""
        if device:
            return self._child(device)[1]
        if bool(product) != bool(node_id):
            raise InvalidArgs("product and node-id go together")
        return CloudName(self._provider, product, node_id) if product else None

    def _child(self, device: str) -> tuple[DeviceId, CloudName]:
        child = self._resolve(device)
        name = self._named(child)
        if name is None or name.provider != self._provider:
            raise WrongState(f"Device {child} does not belong to this cloud")
        return child, name


def _facts(held: AuthorityGeneration, now: float) -> Facts:
    one = held.authority
    return {
        "Present": True,
        "Generation": held.generation,
        "Subject": one.subject,
        "Fingerprint": one.fingerprint,
        "Algorithm": one.algorithm,
        "StartTimestamp": int(one.span.starts.timestamp()) * _MICRO,
        "ExpiryTimestamp": int(one.span.ends.timestamp()) * _MICRO,
        "Explanation": held.warning(now),
        "Certificate": one.pem,
    }


def _read(source: int) -> bytes:
    """Read all of a file or pipe, but no more than a CA may have, and a byte.  Blocks."""
    data, coming = b"", select.poll()
    coming.register(source, select.POLLIN)
    while len(data) <= MAX_BYTES:
        if not coming.poll(PATIENCE * 1000):
            raise InvalidArgs("The CA cannot be read: its end does not come")
        try:
            more = os.read(source, MAX_BYTES + 1 - len(data))
        except OSError as error:
            raise InvalidArgs(f"The CA cannot be read: {error.strerror}") from error
        if not more:
            break
        data += more
    return data


def _known(options: Options, names: set[str]) -> None:
    if not names.issuperset(options):
        raise InvalidArgs(f"The options are {', '.join(sorted(names))}")


def _text(options: Options, name: str) -> str:
    value = options.get(name, "")
    if not isinstance(value, str):
        raise InvalidArgs(f"{name} must be a text")
    return value


def _days(options: Options) -> int:
    """Return for how many days; 0 where nothing is said."""
    days = options.get("days", 0)
    if type(days) is int and 0 <= days <= MOST_DAYS:
        return days
    raise InvalidArgs(f"days must be a number up to {MOST_DAYS}")
