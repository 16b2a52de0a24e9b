"""Trust in devices that have proven a credential of ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gatewayd.admission import authenticated_devices
from gatewayd.admission.authenticated_devices import AuthenticatedDevices
from gatewayd.device.identity import Claim, DeviceId, Evidence, Trust

ONE, OTHER = DeviceId("child-0123456789ab"), DeviceId("child-ba9876543210")
SEEN = Evidence(
    ({"txt.serial": "A1", "trust": "claimed"}, {"trust": "corroborated"}),
    frozenset({Claim("serial", "x", "a1")}),
    Trust.CORROBORATED,
    label="sensor",
)


class Discovered:
    """What discovery knows: the same of every device."""

    def __init__(self) -> None:
        self.found = SEEN
        self.calls: list[object] = []

    def evidence(self, device: DeviceId) -> Evidence:
        return self.found

    def changed_at(self, device: DeviceId) -> float:
        return 7.0

    def last_seen(self, device: DeviceId) -> float:
        return 8.0

    def add_known(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        self.calls.append((device, frozenset(claims)))

    def pin(self, device: DeviceId) -> None:
        self.calls.append(("pin", device))

    def unpin(self, device: DeviceId) -> None:
        self.calls.append(("unpin", device))


def test_a_proof_raises_the_trust_in_one_device_and_is_reported_once() -> None:
    changed: list[DeviceId] = []
    devices = AuthenticatedDevices(Discovered(), changed.append)
    devices.prove(ONE)
    devices.prove(ONE)
    assert changed == [ONE]
    proven = devices.evidence(ONE)
    assert proven.trust is Trust.AUTHENTICATED
    assert [view["trust"] for view in proven.views] == ["authenticated"] * 2
    assert proven.views[0]["txt.serial"] == "A1"
    assert replace(proven, views=SEEN.views, trust=SEEN.trust) == SEEN
    assert devices.evidence(OTHER) is SEEN


def test_a_disputed_identity_stays_disputed() -> None:
    discovered = Discovered()
    devices = AuthenticatedDevices(discovered, lambda _: None)
    devices.prove(ONE)
    discovered.found = replace(SEEN, conflict="moved or cloned", trust=Trust.CLAIMED)
    assert devices.evidence(ONE) is discovered.found


def test_a_forgotten_device_has_proven_nothing() -> None:
    discovered = Discovered()
    devices = AuthenticatedDevices(discovered, lambda _: None)
    devices.prove(ONE)
    devices.pin(ONE)
    devices.unpin(ONE)
    devices.add_known(ONE, SEEN.claims)
    assert devices.evidence(ONE) is SEEN
    assert discovered.calls == [("pin", ONE), ("unpin", ONE), (ONE, SEEN.claims)]
    assert (devices.changed_at(ONE), devices.last_seen(ONE)) == (7.0, 8.0)


def test_the_number_of_proofs_is_bounded() -> None:
    devices = AuthenticatedDevices(Discovered(), lambda _: None)
    for number in range(authenticated_devices.MOST + 1):
        devices.prove(DeviceId(f"child-{number:012x}"))
    assert devices.evidence(DeviceId("child-000000000000")) is SEEN
    assert devices.evidence(DeviceId("child-000000000001")).trust is Trust.AUTHENTICATED
