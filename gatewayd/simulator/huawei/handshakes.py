"""TLS handshakes of the simulated Huawei cloud: an instance for each name, and its trusted CAs.

Sources: the vendor's pages on self-registration (usermanual-iothub/iot_01_0115: SNI is required),
on X.509 certificates (devg-iothub/iot_02_0205), and on TLS (usermanual-iothub/iot_01_0128 and
iot_06_v5_3001: its cipher suites).
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from gatewayd.simulator import faults, pki
from gatewayd.simulator.faults import FaultPlan, SimulatedFault
from gatewayd.simulator.huawei.options import HuaweiCloudOptions
from gatewayd.simulator.huawei.platform.instance import IotdaInstance

_LONG_AGO = (datetime(2001, 1, 1, tzinfo=UTC), datetime(2001, 2, 1, tzinfo=UTC))
_MISNAMED = "elsewhere.example"

CIPHERS_1_3 = frozenset({"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"})
"""The suites of TLS 1.3.  Python cannot restrict these: see `speaks`."""
CIPHERS_1_2 = tuple(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "AES256-SHA", "AES128-SHA")
    for key in ("ECDSA", "RSA")
)
"""The suites of TLS 1.2 and older, by OpenSSL's names.  Of two keys, for the server's own."""


def speaks(tls: ssl.SSLSocket) -> bool:
    """Whether a connection uses a suite that the vendor supports."""
    cipher = tls.cipher()
    return cipher is not None and cipher[0] in CIPHERS_1_3.union(CIPHERS_1_2)


class InstanceContext(ssl.SSLContext):
    """The TLS context of one instance."""

    instance: IotdaInstance


class Handshakes:
    """The chooser of a TLS context, by the server name that a client sends.

    context: for new connections.  counts: for no-name and unknown-name.
    """

    def __init__(
        self,
        find: Callable[[str], IotdaInstance | None],
        authority: pki.RootAuthority,
        plan: FaultPlan,
        options: HuaweiCloudOptions,
        counts: Counter[str],
    ) -> None:
        self._find, self._authority, self._plan = find, authority, plan
        self._options, self._counts = options, counts
        self._life = pki.life(authority.certificate)
        self._contexts: dict[str, InstanceContext] = {}
        self._certificates: dict[str, pki.KeyedCertificate] = {}
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._restrict(self.context)
        self.context.sni_callback = self._choose

    def forget(self, instance: IotdaInstance) -> None:
        """Reload an instance's trusted CAs for new connections."""
        self._contexts.pop(instance.instance_id, None)

    def _choose(
        self, sock: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> int | None:
        """Set the context of a connection, or return the alert that ends it."""
        instance = self._find(name) if name else None
        if instance is None:
            self._counts["unknown-name" if name else "no-name"] += 1
            return int(self._options.nameless)
        fault = self._plan.choose("tls", instance.domain, faults.IN_TLS)
        match fault:
            case SimulatedFault("tls-alert", number=number):
                return int(number)
            case SimulatedFault():
                sock.context = self._make(instance, self._bad(instance, fault))
            case _:
                sock.context = self._of(instance)
        return None

    def _of(self, instance: IotdaInstance) -> InstanceContext:
        if (context := self._contexts.get(instance.instance_id)) is None:
            context = self._make(instance, self._good(instance))
            self._contexts[instance.instance_id] = context
        return context

    def _good(self, instance: IotdaInstance) -> pki.KeyedCertificate:
        if (found := self._certificates.get(instance.domain)) is None:
            found = self._issue(instance.domain)
            self._certificates[instance.domain] = found
        return found

    def _bad(self, instance: IotdaInstance, fault: SimulatedFault) -> pki.KeyedCertificate:
        if fault.name == "tls-misnamed":
            return self._issue(_MISNAMED)
        if fault.name == "tls-expired":
            return self._authority.issue([instance.domain], [], *_LONG_AGO)
        stranger = pki.make_ca("Stranger", *self._life)
        return stranger.issue([instance.domain], [], *self._life)

    def _issue(self, name: str) -> pki.KeyedCertificate:
        return self._authority.issue([name], [], *self._life, rsa_key=self._options.rsa_key)

    def _make(self, instance: IotdaInstance, certificate: pki.KeyedCertificate) -> InstanceContext:
        context = InstanceContext(ssl.PROTOCOL_TLS_SERVER)
        context.instance = instance
        self._restrict(context)
        certificate.present(context)
        trusted = [
            one.content
            for one in instance.authorities.list()
            if one.status or self._options.late_unverified
        ]
        if trusted:
            context.load_verify_locations(cadata="".join(trusted))
        return context

    def _restrict(self, context: ssl.SSLContext) -> None:
        """Request a client certificate, which devices with secrets do not have."""
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a device CA may be no root
        context.minimum_version = self._options.oldest
        context.maximum_version = self._options.newest
        context.set_ciphers(":".join(CIPHERS_1_2))
