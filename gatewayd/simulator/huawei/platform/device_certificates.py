"""The device certificates that a Huawei instance has seen, as objects.  No I/O.

Source: the models DeviceCertificateSimple and UpdateDeviceCertificate of the vendor's management
SDK.  An INACTIVE one locks out every device of its fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.ids import Ids
from gatewayd.simulator.huawei.x509 import CertificateInfo

ACTIVE, INACTIVE = "ACTIVE", "INACTIVE"


@dataclass(slots=True)
class DeviceCertificate:
    """A certificate that a device has shown.

    fingerprint: SHA-256.  created, expiry: seconds since 1970.
    devices: ids of those that have used it.
    """

    certificate_id: str
    app_id: str
    info: CertificateInfo = field(repr=False)
    created: float
    status: str = ACTIVE
    devices: dict[str, None] = field(default_factory=dict)

    @property
    def record_id(self) -> str:
        """The order of pages."""
        return self.certificate_id

    @property
    def common_name(self) -> str:
        """The subject's CN."""
        return self.info.common_name

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal."""
        return self.info.sha256

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.info.pem

    @property
    def expiry(self) -> float:
        """The end of its validity."""
        return self.info.expiry


class DeviceCertificates:
    """Device certificates.  Every method raises PlatformError.

    limit: over it, new ones are not stored, and connecting works all the same.
    deactivated: called with the devices of a deactivated certificate.
    """

    def __init__(self, ids: Ids, limit: int) -> None:
        self.deactivated: Callable[[Sequence[str]], None] = lambda _: None
        self._ids, self._limit = ids, limit
        self._certificates: dict[str, DeviceCertificate] = {}
        self._fingerprints: dict[str, str] = {}

    def seen(self, info: CertificateInfo, app_id: str, device_id: str) -> None:
        """Store a certificate that a device has logged in with."""
        found = self.of(info)
        if found is None:
            if len(self._certificates) >= self._limit:
                return
            found = DeviceCertificate(self._ids.record(), app_id, info, self._ids.clock())
            self._certificates[found.certificate_id] = found
            self._fingerprints[info.sha256] = found.certificate_id
        found.devices[device_id] = None

    def of(self, info: CertificateInfo) -> DeviceCertificate | None:
        """Return the object of a certificate, if it is stored."""
        return self._certificates.get(self._fingerprints.get(info.sha256, ""))

    def get(self, certificate_id: str) -> DeviceCertificate:
        """Return one."""
        if found := self._certificates.get(certificate_id):
            return found
        raise PlatformError(IotdaCode.UNKNOWN_CERTIFICATE)

    def list(
        self,
        *,
        app_id: str | None = None,
        common_name: str | None = None,
        fingerprint: str | None = None,
        status: str | None = None,
    ) -> Sequence[DeviceCertificate]:
        """Return the matching ones, newest first."""
        return [
            one
            for one in reversed(self._certificates.values())
            if app_id in (None, one.app_id)
            and common_name in (None, one.common_name)
            and fingerprint in (None, one.fingerprint)
            and status in (None, one.status)
        ]

    def devices(self, certificate_id: str) -> Sequence[str]:
        """Return the ids of the devices that have used one."""
        return list(self.get(certificate_id).devices)

    def update(self, certificate_id: str, status: str) -> DeviceCertificate:
        """Make one ACTIVE or INACTIVE."""
        if status not in (ACTIVE, INACTIVE):
            raise PlatformError(IotdaCode.INVALID_INPUT, "(status)")
        certificate = self.get(certificate_id)
        certificate.status = status
        if status == INACTIVE:
            self.deactivated(list(certificate.devices))
        return certificate

    def delete(self, certificate_id: str) -> None:
        """Delete one."""
        certificate = self.get(certificate_id)
        del self._certificates[certificate_id]
        del self._fingerprints[certificate.fingerprint]
