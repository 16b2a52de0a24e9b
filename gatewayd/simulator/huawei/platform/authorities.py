"""The device CA certificates of a Huawei instance, and the proof of possession of their keys.

Source: the vendor's APIs "Device CA certificate management" (api-iothub/iot_06_v5_0014, 0016,
UpdateCertificate).  No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.ids import Ids
from gatewayd.simulator.huawei.platform.resource_spaces import ResourceSpaces
from gatewayd.simulator.huawei.x509 import CertificateInfo, UnreadableCertificate, read_pem


@dataclass(slots=True)
class DeviceCa:
    """A device CA certificate.

    content: PEM.  status: whether it is verified.
    created, effective, expiry: seconds since 1970.
    """

    certificate_id: str
    app_id: str
    info: CertificateInfo = field(repr=False)
    verify_code: str
    created: float
    status: bool = False
    provision_enable: bool = False
    template_id: str | None = None
    ocsp_enable: bool = False
    ocsp_ssl_enable: bool = False
    ocsp_server_ca_id: str | None = None

    @property
    def record_id(self) -> str:
        """The order of pages."""
        return self.certificate_id

    @property
    def content(self) -> str:
        """The certificate."""
        return self.info.pem

    @property
    def cn_name(self) -> str:
        """Its CN."""
        return self.info.common_name

    @property
    def owner(self) -> str:
        """Its O."""
        return self.info.owner

    @property
    def effective(self) -> float:
        """The begin of its validity."""
        return self.info.effective

    @property
    def expiry(self) -> float:
        """The end of its validity."""
        return self.info.expiry


class Authorities:
    """Device CAs.  Every method raises PlatformError.

    known: whether there is a template of this id.  limit: of an instance.
    changed: called when the set of CAs changes.
    """

    def __init__(
        self, ids: Ids, apps: ResourceSpaces, limit: int, known: Callable[[str], bool]
    ) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.provisions = True
        self._ids, self._apps, self._limit, self._known = ids, apps, limit, known
        self._authorities: dict[str, DeviceCa] = {}

    def upload(self, content: str, app_id: str | None = None) -> DeviceCa:
        """Add a CA, which is not verified yet."""
        app = self._apps.find(app_id)
        info = _read(content)
        if not info.authority:
            raise PlatformError(IotdaCode.BAD_CERTIFICATE)
        if len(self._authorities) >= self._limit:
            raise PlatformError(IotdaCode.CA_LIMIT)
        if any(one.info.sha256 == info.sha256 for one in self._authorities.values()):
            raise PlatformError(IotdaCode.CA_EXISTS)
        made = DeviceCa(self._ids.record(), app.app_id, info, self._ids.code(), self._ids.clock())
        self._authorities[made.certificate_id] = made
        self.changed()
        return made

    def get(self, certificate_id: str) -> DeviceCa:
        """Return one."""
        if found := self._authorities.get(certificate_id):
            return found
        raise PlatformError(IotdaCode.UNKNOWN_CA)

    def list(self, app_id: str | None = None) -> Sequence[DeviceCa]:
        """Return those of a resource space, or all; the newest first."""
        found = reversed(self._authorities.values())
        return [one for one in found if app_id in (None, one.app_id)]

    def verify(self, certificate_id: str, verify_content: str) -> DeviceCa:
        """Verify a CA by a certificate with its code as CN, signed with its key."""
        authority, proof = self.get(certificate_id), _read(verify_content)
        if not proof.signed_by(authority.info):
            raise PlatformError(IotdaCode.VERIFY_PATH)
        if proof.common_name != authority.verify_code:
            raise PlatformError(IotdaCode.VERIFY_CODE)
        authority.status = True
        self.changed()
        return authority

    def update(self, certificate_id: str, changes: Mapping[str, object]) -> DeviceCa:
        """Change provision_enable, template_id (None unbinds), and the fields of OCSP.

        All or nothing.  Self-registration needs a template, and an instance that offers it.
        """
        authority = self.get(certificate_id)
        if unknown := set(changes) - set(_CHANGEABLE):
            raise PlatformError(IotdaCode.INVALID_INPUT, f"({', '.join(sorted(unknown))})")
        new = {name: getattr(authority, name) for name in _CHANGEABLE} | dict(changes)
        if not all(isinstance(new[name], kind) for name, kind in _CHANGEABLE.items()):
            raise PlatformError(IotdaCode.INVALID_INPUT)
        if new["template_id"] is not None and not self._known(new["template_id"]):
            raise PlatformError(IotdaCode.UNKNOWN_TEMPLATE)
        if new["provision_enable"] and not self.provisions:
            raise PlatformError(IotdaCode.NOT_OFFERED)
        if (new["provision_enable"] and new["template_id"] is None) or (
            new["ocsp_ssl_enable"] and new["ocsp_server_ca_id"] is None
        ):
            raise PlatformError(IotdaCode.INVALID_INPUT)
        for name, value in new.items():
            setattr(authority, name, value)
        return authority

    def delete(self, certificate_id: str) -> None:
        """Delete one: its certificates are refused from now on."""
        self.get(certificate_id)
        del self._authorities[certificate_id]
        self.changed()

    def empty(self, app_id: str) -> None:
        """Delete those of a resource space."""
        for authority in self.list(app_id):
            self.delete(authority.certificate_id)

    def bound(self, template_id: str) -> bool:
        """Whether a CA has this template."""
        return any(one.template_id == template_id for one in self._authorities.values())

    def issuer_of(self, certificate: CertificateInfo) -> DeviceCa | None:
        """Return the CA that has signed a certificate; a verified one, if there are two."""
        found = [one for one in self._authorities.values() if certificate.signed_by(one.info)]
        return max(found, key=lambda one: one.status, default=None)


_CHANGEABLE: Mapping[str, type | tuple[type, ...]] = {
    "provision_enable": bool,
    "template_id": (str, type(None)),
    "ocsp_enable": bool,
    "ocsp_ssl_enable": bool,
    "ocsp_server_ca_id": (str, type(None)),
}


def _read(content: object) -> CertificateInfo:
    try:
        return read_pem(content if isinstance(content, str) else "")
    except UnreadableCertificate:
        raise PlatformError(IotdaCode.BAD_CERTIFICATE) from None
