"""How the simulated Alibaba cloud is set up.  Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gatewayd.testing.simulator.alibaba.answers import Manner
from gatewayd.testing.simulator.alibaba.devices import Node
from gatewayd.testing.simulator.alibaba.rules import Rules
from gatewayd.testing.simulator.mqtt_link import Limits


@dataclass(frozen=True, slots=True)
class Options:
    """How the cloud is set up.

    host: the name clients are told, one of the certificate's.  address: IPv4, listened on.
    port: 0 takes a free one.
    instance_id: of the cloud's instance; "" for the old public one, which has none.
    rate: CONNECTs let through in a minute for each device; 0 for no limit.
    unlisted: whether devices may register that nobody has created.
    plain: whether plain TCP is answered, as on the vendor's port 1883; with a refusal, mostly.
    https_port: likewise, for registration over HTTPS; None for without.
    nodes: productKey → kind of device; direct, where nothing is said.
    rules: for gateways.
    """

    host: str = "localhost"
    address: str = "127.0.0.1"
    port: int = 0
    instance_id: str = ""
    rate: int = 5
    unlisted: bool = False
    plain: bool = True
    https_port: int | None = None
    nodes: Mapping[str, Node] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    manner: Manner = field(default_factory=Manner)
    limits: Limits = field(default_factory=Limits)
