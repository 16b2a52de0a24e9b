"""The authentication of devices at an instance of the simulated Huawei platform.  No I/O.

Client ids and passwords have the platform's format.  Sources: the vendor's pages on MQTT CONNECT
(api-iothub/iot_06_v5_3009), on X.509 certificates (devg-iothub/iot_02_0205) and on
self-registration (usermanual-iothub/iot_01_0115).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from gatewayd.simulator.huawei import times
from gatewayd.simulator.huawei.platform.authorities import DeviceCa
from gatewayd.simulator.huawei.platform.device import DeviceAuth, HuaweiAuthType, HuaweiDevice
from gatewayd.simulator.huawei.platform.device_certificates import INACTIVE
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.platform.provisioning import BadCertificate, ParsedDevice, preparse
from gatewayd.simulator.huawei.reasons import HuaweiConnectRefused, RefusalReason
from gatewayd.simulator.huawei.x509 import CertificateInfo
from gatewayd.simulator.mqtt.packets import Connect

MAX_LENGTH = 256
"""Characters of a client id, and of a user name (api-iothub/iot_06_v5_3009)."""
_FORMAT = re.compile(r"([A-Za-z0-9_-]{1,128})_0_([01])_([0-9]{10})")


@dataclass(frozen=True, slots=True)
class ClientId:
    """A client id.  checked: whether the hour is compared.  hour: YYYYMMDDHH, UTC."""

    device_id: str
    checked: bool
    hour: str


def read(text: str) -> ClientId | None:
    """Parse a client id; None for another format, also where the hour is no time."""
    found = _FORMAT.fullmatch(text)
    if found is None or not times.is_hour(found[3]):
        return None
    return ClientId(found[1], found[2] == "1", found[3])


def password(secret: str, hour: str) -> str:
    """Return the password for a secret: the hour is the key."""
    return hmac.new(hour.encode(), secret.encode(), hashlib.sha256).hexdigest()


def proves(given: bytes, secret: str, hour: str) -> bool:
    """Whether a password was made with a secret."""
    return hmac.compare_digest(given, password(secret, hour).encode())


KEEPALIVE = range(30, 1201)
"""The keep-alive that a client may request, in seconds; CONNACK says 2 for others."""


@dataclass(frozen=True, slots=True)
class LoginDecision:
    """The decision to accept a login.

    device: the known one; if None, `newcomer` is to be registered.
    authority: the issuer of the certificate; None for a login with a secret.
    """

    device_id: str
    device: HuaweiDevice | None
    certificate: CertificateInfo | None = None
    authority: DeviceCa | None = None
    newcomer: ParsedDevice | None = None


class HuaweiAuthenticator:
    """An authenticator of devices.  clock: seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def decide(
        self, instance: IotdaInstance, connect: Connect, certificate: CertificateInfo | None
    ) -> LoginDecision:
        """Decide on a login; change nothing yet.  Raises HuaweiConnectRefused."""
        if not connect.known:
            raise HuaweiConnectRefused(RefusalReason.PROTOCOL)
        own = read(connect.client_id)
        claimed = own.device_id if own else ""
        if len(connect.client_id) > MAX_LENGTH:
            raise HuaweiConnectRefused(RefusalReason.CLIENT_ID)
        if len(connect.username) > MAX_LENGTH:
            raise HuaweiConnectRefused(RefusalReason.USERNAME, claimed)
        if connect.keepalive not in KEEPALIVE:
            raise HuaweiConnectRefused(RefusalReason.KEEPALIVE, claimed)
        if certificate is None or connect.password:
            return self._by_secret(instance, connect, own)
        authority = self._issuer(instance, certificate, claimed)
        device = instance.devices.lookup(claimed)
        if device and connect.username == claimed:
            self._check_certificate(device, certificate, authority)
            return LoginDecision(device.device_id, device, certificate, authority)
        if not authority.provision_enable:
            raise HuaweiConnectRefused(
                RefusalReason.UNKNOWN_DEVICE if own else RefusalReason.CLIENT_ID, claimed
            )
        return self._newcomer(instance, certificate, authority)

    def enter(self, instance: IotdaInstance, decision: LoginDecision) -> HuaweiDevice:
        """Log in: register a newcomer, learn a fingerprint.  Raises HuaweiConnectRefused."""
        device = decision.device or self._register(instance, decision)
        if certificate := decision.certificate:
            auth = device.auth
            if not _known(device, certificate):
                auth.fingerprint = certificate.sha256
            instance.certificates.seen(certificate, device.app_id, device.device_id)
        device.connect(self._clock())
        return device

    def _by_secret(
        self, instance: IotdaInstance, connect: Connect, own: ClientId | None
    ) -> LoginDecision:
        if own is None:
            raise HuaweiConnectRefused(RefusalReason.CLIENT_ID)
        if connect.username != own.device_id:
            raise HuaweiConnectRefused(RefusalReason.USERNAME, own.device_id)
        if not connect.password:
            raise HuaweiConnectRefused(RefusalReason.NO_CREDENTIAL, own.device_id)
        device = self._allowed(instance.devices.lookup(own.device_id), own.device_id)
        if device.auth.auth_type is not HuaweiAuthType.SECRET:
            raise HuaweiConnectRefused(RefusalReason.AUTH_TYPE, own.device_id)
        # the tolerance of the hour is not documented: none
        if own.checked and own.hour != times.hour(self._clock()):
            raise HuaweiConnectRefused(RefusalReason.TIMESTAMP, own.device_id)
        if not any(proves(connect.password, secret, own.hour) for secret in device.auth.secrets):
            raise HuaweiConnectRefused(RefusalReason.PASSWORD, own.device_id)
        return LoginDecision(device.device_id, device)

    def _issuer(
        self, instance: IotdaInstance, certificate: CertificateInfo, claimed: str
    ) -> DeviceCa:
        """Return the verified CA of a certificate, which may be deleted since the handshake."""
        authority = instance.authorities.issuer_of(certificate)
        if authority is None:
            raise HuaweiConnectRefused(RefusalReason.UNKNOWN_CA, claimed)
        if not authority.status:
            raise HuaweiConnectRefused(RefusalReason.UNVERIFIED_CA, claimed)
        stored = instance.certificates.of(certificate)
        if stored and stored.status == INACTIVE:
            raise HuaweiConnectRefused(RefusalReason.CERTIFICATE_INACTIVE, claimed)
        return authority

    def _newcomer(
        self, instance: IotdaInstance, certificate: CertificateInfo, authority: DeviceCa
    ) -> LoginDecision:
        """Decide on a certificate by the template of its CA; it may be that of a known device."""
        assert authority.template_id is not None, "self-registration needs a template"
        template = instance.templates.get(authority.template_id)
        try:
            parsed = preparse(template.body, certificate)
        except BadCertificate as error:
            raise HuaweiConnectRefused(RefusalReason.ATTRIBUTE) from error
        if device := instance.devices.lookup(parsed.device_id):
            self._check_certificate(device, certificate, authority)
            return LoginDecision(device.device_id, device, certificate, authority)
        try:
            instance.products.get(parsed.product_id, authority.app_id)
        except PlatformError:
            raise HuaweiConnectRefused(RefusalReason.RESOURCE_SPACE, parsed.device_id) from None
        return LoginDecision(parsed.device_id, None, certificate, authority, parsed)

    def _check_certificate(
        self, device: HuaweiDevice, certificate: CertificateInfo, authority: DeviceCa
    ) -> None:
        self._allowed(device, device.device_id)
        if device.app_id != authority.app_id:
            raise HuaweiConnectRefused(RefusalReason.RESOURCE_SPACE, device.device_id)
        if device.auth.auth_type is not HuaweiAuthType.CERTIFICATES:
            raise HuaweiConnectRefused(RefusalReason.AUTH_TYPE, device.device_id)
        if device.auth.fingerprint is not None and not _known(device, certificate):
            raise HuaweiConnectRefused(RefusalReason.FINGERPRINT, device.device_id)

    def _allowed(self, device: HuaweiDevice | None, device_id: str) -> HuaweiDevice:
        if device is None:
            raise HuaweiConnectRefused(RefusalReason.UNKNOWN_DEVICE, device_id)
        if device.frozen:
            raise HuaweiConnectRefused(RefusalReason.FROZEN, device_id)
        if not device.direct:
            raise HuaweiConnectRefused(RefusalReason.CHILD, device_id)
        return device

    def _register(self, instance: IotdaInstance, decision: LoginDecision) -> HuaweiDevice:
        """Register a newcomer with its tags, and bind the template's policies that exist."""
        parsed, authority = decision.newcomer, decision.authority
        assert parsed is not None, "decided so"
        assert authority is not None, "decided so"
        try:
            device = instance.devices.add(
                node_id=parsed.node_id,
                product_id=parsed.product_id,
                device_id=parsed.device_id,
                name=parsed.device_name,
                app_id=authority.app_id,
                auth=DeviceAuth(HuaweiAuthType.CERTIFICATES),
                tags={tag["tag_key"]: tag["tag_value"] for tag in parsed.tags},
                self_registered=True,
            )
        except PlatformError as error:
            exists = error.code is IotdaCode.DEVICE_EXISTS
            reason = RefusalReason.TEMPLATE if exists else RefusalReason.NO_ROOM
            raise HuaweiConnectRefused(reason, parsed.device_id) from error
        for policy_id in parsed.policy_ids:
            if instance.policies.known(policy_id):
                instance.policies.bind(policy_id, "device", [device.device_id])
        return device


def _known(device: HuaweiDevice, certificate: CertificateInfo) -> bool:
    """Whether a certificate has one of the device's two fingerprints."""
    auth = device.auth
    return certificate.matches(auth.fingerprint) or certificate.matches(auth.secondary_fingerprint)
