"""The settings of a broker as a cloud."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatewayd.cloud.mqtt_broker.templates import (
    DEVICE,
    PRODUCT,
    BrokerTemplates,
    name_template,
    part_fault,
    topic_template,
)
from gatewayd.cloud.outbound import OutboundSettings
from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, FileUse, given_credential, given_file, setting

PASSWORD, CERTIFICATE = "password", "certificate"
"""How a child proves who it is; also the names of the routes."""


@dataclass(frozen=True, slots=True)
class BrokerManagement:
    """[cloud.<name>.management]: the login by which children are created at the broker, with
    mosquitto's dynamic security.  Each gateway needs a user of its own there: it marks the clients
    that are the gateway's."""

    user: str = setting(REQUIRED, "user name that may manage clients and roles at the broker")
    password_credential: str = given_credential("the password of this user")
    password_file: Path | None = given_file("the password of this user", "password_credential")

    def mistakes(self) -> Iterator[str]:
        """Yield the mistakes; see MqttBrokerSettings.problems."""
        if fault := part_fault(self.user):
            yield f"management.user {fault}"
        if not self.password_credential and self.password_file is None:
            yield "management has no password: set password_credential or password_file"
        if self.password_credential and self.password_file is not None:
            yield "management has both password_credential and password_file: leave one out"


@dataclass(frozen=True, slots=True)
class BrokerCertificates:
    """[cloud.<name>.certificates]: the children's certificates, where these are their identity."""

    key_algorithm: str = setting(
        "ec-p256", "the children's keys", choices=("ec-p256", "rsa-2048", "rsa-3072")
    )
    days: int = setting(
        30,
        "life of a certificate, in days; a broker that has no list of the revoked ones accepts one "
        "until its end",
        low=1,
        high=3650,
    )
    renew_before: int = setting(
        10, "days before its end at which a certificate is renewed", low=1, high=1825
    )

    def mistakes(self) -> Iterator[str]:
        """Yield the mistakes; see MqttBrokerSettings.problems."""
        if self.renew_before >= self.days:
            yield "certificates.renew_before must be less than certificates.days"


@dataclass(frozen=True, slots=True)
class MqttBrokerSettings(OutboundSettings):
    """[cloud.<name>], of the kind "mqtt": any broker of MQTT 3.1.1 over TLS."""

    host: str = setting(
        REQUIRED, "host name of the broker, which its certificate has", grammar=grammar.host
    )
    management: BrokerManagement | None = setting(
        None,
        'the login by which children are created at the broker; where identity is "password"',
    )
    identity: str = setting(
        PASSWORD,
        'how a child proves who it is: "password", for a client that is created at the broker; or '
        '"certificate", which the device CA of this cloud issues, and the broker trusts',
        choices=(PASSWORD, CERTIFICATE),
    )
    certificates: BrokerCertificates | None = setting(
        None, 'the children\'s certificates, where identity is "certificate" (default: as below)'
    )
    address: str = setting(
        "", "name or IP address to connect to, if not that of host", grammar=grammar.host
    )
    port: int = setting(8883, "TCP port of MQTT over TLS", low=1, high=65535)
    ca_file: Path | None = setting(  # declares a field
        None,
        "trusted root certificates, PEM (default: those of the system)",
        file=FileUse.LATER,
    )
    client_id: str = setting(
        "", "client id of a child (default: that of user)", grammar=name_template
    )
    user: str = setting(
        "",
        'user name of a child (default: "{product}-{device}"; as the common name of a certificate '
        '"{product}/{device}")',
        grammar=name_template,
    )
    up: str = setting(
        "devices/{product}/{device}/up/{topic}",
        "topics of what a child says: {topic} is what follows up/ at gatewayd's own broker, as "
        "properties",
        grammar=topic_template,
    )
    down: str = setting(
        "devices/{product}/{device}/down/{topic}",
        "topics of what is said to a child: set/ID, get/ID and call/NAME/ID are commands, whose "
        "answer the child gives to answer/ID",
        grammar=topic_template,
    )
    products: tuple[str, ...] = setting(
        (), "products that children may have (default: any that their rules name)"
    )
    rate: float = setting(
        50.0, "messages of one child that leave in a second", low=0.1, high=10_000
    )
    max_payload: int = setting(
        262_144, "the largest payload that the broker accepts", unit="bytes", low=128, high=1 << 20
    )
    keepalive: int = setting(60, "MQTT keep-alive", unit="s", low=10, high=1200)
    connect_timeout: float = setting(
        10.0, "longest wait for each of name lookup, TCP and TLS", unit="s", low=0.1, high=120
    )
    reply_timeout: float = setting(
        30.0, "longest wait for each answer of the broker", unit="s", low=0.1, high=120
    )

    def problems(self) -> Iterator[str]:
        """Yield each mistake as one sentence, with the key and the remedy."""
        yield from OutboundSettings.problems(self)
        yield from self.transport_problems(self.port)
        for product in self.products:
            if fault := part_fault(product):
                yield f"products: each {fault}"
        yield from self.templates.mistakes(several=len(self.products) != 1)
        if self.identity == CERTIFICATE:
            yield from self.templates.mistakes_of_users(several=len(self.products) != 1)
            yield from self.issuing.mistakes()
            if self.websocket:
                yield (
                    "transport is websocket, for which mosquitto refuses no revoked certificate: "
                    'set transport to "tcp", or identity to "password"'
                )
            if self.management is not None:
                yield 'management is for identity "password": leave it out'
        elif self.management is None:
            yield (
                "management is missing: children are created by it; or set identity to "
                '"certificate"'
            )
        else:
            yield from self.management.mistakes()
            if self.certificates is not None:
                yield 'certificates is for identity "certificate": leave it out'
            if "/" in self.templates.user:
                yield 'user must have no /, except where identity is "certificate"'

    @property
    def issuing(self) -> BrokerCertificates:
        """How certificates are issued."""
        return self.certificates or BrokerCertificates()

    @property
    def templates(self) -> BrokerTemplates:
        """What a child is at the broker."""
        between = "/" if self.identity == CERTIFICATE else "-"
        user = self.user or f"{PRODUCT}{between}{DEVICE}"
        return BrokerTemplates(self.client_id or user, user, self.up, self.down)
