"""The commands on the device CA of one cloud: make, import, prove, issue, show, revoked, renew.

So are those on certificates that were made elsewhere.

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

from gatewayd.ca.authority import Authority, authority_name, make_authority, read_authority
from gatewayd.ca.bundle import is_signed_by, read_bundle
from gatewayd.ca.certificates import MAX_BYTES, Validity, to_pem
from gatewayd.ca.keys import ALGORITHMS
from gatewayd.cloud.ca.given import GivenIdentities
from gatewayd.cloud.ca.identity import CertificateIdentity, renewal_due
from gatewayd.cloud.ca.issued import IssuedCertificates
from gatewayd.cloud.ca.store import NO_AUTHORITY, AuthorityGeneration, AuthoritySlots
from gatewayd.cloud.provider import AcceptsCertificates, CertificateIssuer
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import addressed
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret, SecretRef, SecretSlots
from gatewayd.device.views import Facts
from gatewayd.errors import AmbiguousId, InvalidArgs, NoSuchDevice, StoreError, WrongState
from gatewayd.runtime.clock import LOOK as CLOCK_LOOK
from gatewayd.runtime.text import without_unprintable

log = logging.getLogger(__name__)

Options: TypeAlias = Mapping[str, object]

KIND = "authority"
DAYS, MOST_DAYS = 3650, 36500
LOOK = 6 * 3600.0
"""Seconds between two checks of when a CA expires."""
PATIENCE = 5.0
"""Seconds to wait for each part of a CA that is imported: few can be read at a time."""
NAMES = ("common-name", "organization", "organizational-unit", "country", "state")
_MICRO = 1_000_000


def slots_of(provider: str, store: SecretSlots) -> AuthoritySlots:
    """Return the slots for the authorities of a provider, which are no child's."""
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


def give_slots(
    provider: str, issuer: CertificateIssuer, store: SecretSlots, now: Callable[[], float]
) -> None:
    """Give the device CA of a provider its slots, its ledger, and what operators import.

    now: seconds since the epoch.
    """
    given = None
    if isinstance(issuer, AcceptsCertificates):
        given = GivenIdentities(provider, store, issuer.renew_before, now)
    issued = IssuedCertificates(provider, store, now)
    issuer.authority.set_slots(slots_of(provider, store), issued, given)


class AuthorityService:
    """Serves the port `AuthorityCommands` for one provider.

    resolve: an id as a caller gave it → the device.  named: its name at the cloud, if it has one.
    renew: has a device's certificate replaced; False where it is not online.
    clock_fault: why the clock cannot be used; "" where it can.
    """

    def __init__(
        self,
        provider: str,
        issuer: CertificateIssuer,
        resolve: Callable[[str], DeviceId],
        named: Callable[[DeviceId], CloudName | None],
        renew: Callable[[DeviceId], bool],
        clock_fault: Callable[[], str],
    ) -> None:
        self._provider, self._issuer, self._authorities = provider, issuer, issuer.authority
        self._resolve, self._named, self._renew = resolve, named, renew
        self._clock_fault = clock_fault

    async def watch(self) -> None:
        """Warn in time before the CA expires.  Runs until it is cancelled."""
        while True:
            if self._clock_fault():
                await asyncio.sleep(CLOCK_LOOK)
                continue
            with contextlib.suppress(StoreError):  # each use of the CA reports it
                await self._authorities.warn_of_expiry()
            await asyncio.sleep(LOOK)

    async def make(self, options: Options, caller: str) -> str:
        self._require_clock()
        _known(options, {*NAMES, "algorithm", "days", "replace"})
        words = {"common-name": f"{self._provider} device CA"} | {
            name: _text(options, name) for name in NAMES if _text(options, name)
        }
        algorithm = _text(options, "algorithm") or "rsa-2048"
        if algorithm not in ALGORITHMS:
            raise InvalidArgs(f"Option 'algorithm' must be one of {', '.join(ALGORITHMS)}")
        days, replace = _days(options) or DAYS, options.get("replace", False)
        if not isinstance(replace, bool):
            raise InvalidArgs("Option 'replace' must be a boolean")
        subject = authority_name(words)
        now = self._authorities.now()
        made = await asyncio.to_thread(make_authority, subject, algorithm, days, now)
        return await self._keep(made, caller, "made", replace=replace)

    async def import_authority(self, source: int, caller: str) -> str:
        self._require_clock()
        data = await asyncio.to_thread(_read, source)
        authority = await asyncio.to_thread(read_authority, Secret(data))
        if fault := authority.span.fault(self._authorities.now()):
            raise InvalidArgs(f"The certificate of the CA {fault}")
        return await self._keep(authority, caller, "imported", replace=True)

    async def prove(self, code: str, caller: str) -> str:
        self._require_clock()
        current = await self._authorities.require()
        proof = await asyncio.to_thread(current.authority.prove, code, self._authorities.now())
        log.info("Proof of possession made for the device CA of %s by %s.", self._provider, caller)
        return to_pem(proof)

    async def issue(self, device: str, request: str, options: Options, caller: str) -> str:
        self._require_clock()
        _known(options, {"product", "node-id", "days"})
        name = self._subject_of(device, _text(options, "product"), _text(options, "node-id"))
        if not request:
            raise InvalidArgs(
                "A certificate request is needed: gatewayd makes the key of a child only when it "
                "registers or renews it"
            )
        data = request.encode("ascii", "replace")
        chain = await self._issuer.certify(data, name, _days(options))
        log.info("Certificate issued by the device CA of %s for %s.", self._provider, caller)
        return chain

    async def show(self) -> Facts:
        current = await self._authorities.current()
        if current is None:
            reason = addressed(NO_AUTHORITY, "", self._provider)
            return {"Present": False, "Explanation": reason.text, "Remedy": reason.remedy}
        return _facts(current, self._authorities.now())

    async def list_revoked(self) -> str:
        return await self._authorities.revocation_lists()

    async def import_certificate(
        self, device: str, source: int, options: Options, caller: str
    ) -> Facts:
        self._require_clock()
        _known(options, {"product", "node-id", "device-id"})
        wanted = self._subject_of(device, _text(options, "product"), _text(options, "node-id"))
        data = await asyncio.to_thread(_read, source, "certificate")
        bundle = await asyncio.to_thread(read_bundle, data)
        issuer = self._issuer
        if not isinstance(issuer, AcceptsCertificates):
            raise WrongState("This cloud takes no certificates that were made elsewhere")
        name, identity = await issuer.accept(bundle, wanted, _text(options, "device-id"))
        self._demand_long_life(identity, issuer.renew_before)
        child = self._named_child(name)
        self._demand_certificate_route(issuer, (child and self._named(child)) or name)
        current = await self._authorities.current()
        is_own = current is not None and is_signed_by(
            bundle.certificate, current.authority.certificate
        )
        await self._authorities.given.put(name, identity)
        log.info(
            "Certificate of %s imported by %s: SHA-256 %s.", name, caller, identity.fingerprint,
            extra={"cloud": str(name), **({"device": child} if child else {})},
        )  # fmt: skip
        renewing = child is not None and self._renew(child)
        return _given_facts(name, identity, child or "", is_own=is_own, renewing=renewing)

    async def remove_certificate(self, device: str, options: Options, caller: str) -> None:
        _known(options, {"product", "node-id"})
        name = self._subject_of(device, _text(options, "product"), _text(options, "node-id"))
        if name is None:
            raise InvalidArgs("Name the device, or its product and node ID")
        if not await self._authorities.given.remove(name):
            raise WrongState(f"No certificate was imported for {name.product}/{name.device}")
        log.info("Imported certificate of %s removed by %s.", name, caller)

    async def renew(self, device: str, caller: str) -> None:
        child, _ = self._child(device)
        if not self._renew(child):
            raise WrongState(f"Device {child} is not online with a certificate of its own")
        log.info("Renewal of device %s requested by %s.", child, caller, extra={"device": child})

    def _demand_long_life(self, identity: CertificateIdentity, days: int) -> None:
        """Raise InvalidArgs for a certificate that would be due for renewal at once."""
        now = self._authorities.now()
        due = renewal_due(identity.secret, days, now)
        if due is not None and due <= now:
            ends = Validity.of(identity.certificate).ends
            raise InvalidArgs(
                f"The certificate expires on {ends:%Y-%m-%d}, and certificates are renewed {days} "
                "days before: get one that is valid for longer, or set renew_before to less"
            )

    @staticmethod
    def _demand_certificate_route(issuer: AcceptsCertificates, name: CloudName) -> None:
        """Raise WrongState for a device that logs in by something else.  name: with its route."""
        if not issuer.uses_certificate(name):
            raise WrongState(
                f"{name} takes the route {name.route[:32]!a}, which logs in by no certificate from "
                "here: name another route in its rule, and forget the device"
            )

    def _named_child(self, name: CloudName) -> DeviceId | None:
        """Return the child that has a name at this cloud; None where none is known."""
        try:
            child = self._resolve(f"{name.product}/{name.device}")
        except (NoSuchDevice, AmbiguousId):
            return None
        known = self._named(child)
        return child if known is not None and known.provider == self._provider else None

    def _require_clock(self) -> None:
        """Raise WrongState while the clock is not set: what it would date lasts for years."""
        if fault := self._clock_fault():
            raise WrongState(fault[:1].upper() + fault[1:])

    async def _keep(self, authority: Authority, caller: str, how: str, *, replace: bool) -> str:
        current = await self._authorities.keep(authority, replace=replace)
        log.info(
            "Device CA of %s %s by %s: generation %d, SHA-256 %s.",
            self._provider, how, caller, current.generation, authority.fingerprint,
        )  # fmt: skip
        return authority.pem

    def _subject_of(self, device: str, product: str, node_id: str) -> CloudName | None:
        """Return the device whose subject a certificate gets; None for that of the request."""
        if device:
            return self._child(device)[1]
        if bool(product) != bool(node_id):
            raise InvalidArgs("Options 'product' and 'node-id' need each other")
        return CloudName(self._provider, product, node_id) if product else None

    def _child(self, device: str) -> tuple[DeviceId, CloudName]:
        child = self._resolve(device)
        name = self._named(child)
        if name is None or name.provider != self._provider:
            raise WrongState(f"Device {child} does not belong to this cloud")
        return child, name


def _facts(current: AuthorityGeneration, now: float) -> Facts:
    one = current.authority
    return {
        "Present": True,
        "Generation": current.generation,
        "Subject": one.subject,
        "Fingerprint": one.fingerprint,
        "Algorithm": one.algorithm,
        "StartTimestamp": int(one.span.starts.timestamp()) * _MICRO,
        "ExpiryTimestamp": int(one.span.ends.timestamp()) * _MICRO,
        "Explanation": current.warning(now),
        "Certificate": one.pem,
    }


def _given_facts(
    name: CloudName, identity: CertificateIdentity, child: str, *, is_own: bool, renewing: bool
) -> Facts:
    """Return what is public about a certificate that was imported."""
    one, span = identity.certificate, Validity.of(identity.certificate)
    issuer = without_unprintable(one.issuer.rfc4514_string())
    notes = [] if is_own else [
        f"The cloud has to trust its issuer, {issuer}: gatewayd cannot check that."
    ]  # fmt: skip
    return {
        "Product": name.product, "NodeId": name.device, "CloudDeviceId": identity.device_id,
        "Id": child, "Renewing": renewing,
        "Subject": without_unprintable(one.subject.rfc4514_string()), "Issuer": issuer,
        "Fingerprint": identity.fingerprint,
        "StartTimestamp": int(span.starts.timestamp()) * _MICRO,
        "ExpiryTimestamp": int(span.ends.timestamp()) * _MICRO,
        "Notes": notes,
    }  # fmt: skip


def _read(source: int, what: str = "CA") -> bytes:
    """Read all of a file or pipe, but no more than a CA may have, and a byte.  Blocks."""
    data, coming = b"", select.poll()
    coming.register(source, select.POLLIN)
    while len(data) <= MAX_BYTES:
        if not coming.poll(PATIENCE * 1000):
            raise InvalidArgs(f"Timed out reading the {what}: no end of file within {PATIENCE:g} s")
        try:
            more = os.read(source, MAX_BYTES + 1 - len(data))
        except OSError as error:
            raise InvalidArgs(f"The {what} cannot be read: {error.strerror}") from error
        if not more:
            break
        data += more
    return data


def _known(options: Options, names: set[str]) -> None:
    if not names.issuperset(options):
        raise InvalidArgs(f"Unknown option: choose from {', '.join(sorted(names))}")


def _text(options: Options, name: str) -> str:
    value = options.get(name, "")
    if not isinstance(value, str):
        raise InvalidArgs(f"Option {name!r} must be a string")
    return value


def _days(options: Options) -> int:
    """Return the option 'days'; 0 without it."""
    days = options.get("days", 0)
    if type(days) is int and 0 <= days <= MOST_DAYS:
        return days
    raise InvalidArgs(f"Option 'days' must be an integer from 0 to {MOST_DAYS}")
