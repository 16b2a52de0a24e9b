"""The settings of gatewayd's own broker, and where it meets gatewayd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gatewayd.settings import grammar
from gatewayd.settings.declare import setting

DIRECTORY_VARIABLE = "GATEWAYD_BROKER_ACCESS"
SOCKET_VARIABLE = "GATEWAYD_BROKER_SOCKET"
"""The environment variables for what an installed gateway has in the places below."""


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """[messages.broker]"""

    enabled: bool = setting(
        True, "whether gatewayd's own broker runs, for children and programs that have no other"
    )
    port: int = setting(
        8883, "TCP port for children with a password; 0 for none", low=0, high=65535
    )  # fmt: skip
    certificate_port: int = setting(
        8884, "TCP port for children with a certificate; 0 for none", low=0, high=65535
    )
    addresses: tuple[str, ...] = setting(
        (), "IP addresses of this gateway that it serves children on (default: all)",
        grammar=grammar.ip,
    )  # fmt: skip
    names: tuple[str, ...] = setting(
        (), "names and IP addresses by which children reach this gateway, for the certificate of "
        "the broker (default: the host name, with and without .local, and the IPv4 addresses)",
        grammar=grammar.host,
    )  # fmt: skip
    connections: int = setting(
        10_000, "most connections on each port", low=1, high=14_000
    )  # fmt: skip
    connections_per_address: int = setting(
        64, "most connections from one IP address to both ports; 0 for any number",
        low=0, high=65535,
    )  # fmt: skip

    @property
    def ports(self) -> tuple[int, ...]:
        """Those that are in use."""
        return tuple(port for port in (self.port, self.certificate_port) if port)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        if len(set(self.ports)) < len(self.ports):
            yield "port and certificate_port are the same: a port serves one kind of child"


@dataclass(frozen=True, slots=True)
class BrokerPlaces:
    """Where gatewayd and its broker meet.

    access: the directory in which gatewayd writes who may use the broker.
    socket: where programs of this machine, and gatewayd, connect; beside it the broker has its own
    copies of what gatewayd writes.
    """

    access: Path
    socket: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> BrokerPlaces:
        """Return the places of an installed gateway, but for what the environment names."""
        return cls(
            Path(environ.get(DIRECTORY_VARIABLE, "/run/gatewayd-door")),
            Path(environ.get(SOCKET_VARIABLE, "/run/gatewayd-broker/socket")),
        )
