"""The rules of the simulated Alibaba cloud for devices.  Plain data.

Source: the vendor's page "Limits" (help.aliyun.com/document_detail/30527), and those on
sub-devices (see topics.py).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AlibabaRules:
    """The limits, and the choices that the vendor leaves open.

    children: attached to one gateway, and online through it.
    batch, proxied, sessions: devices in one request about registration and topology, about
        registration with the product's secret (the vendor does not say), and about sessions.
    logins: of all sub-devices of one gateway, in a second; 0 for no limit.
    child_logins: of one sub-device, in a minute; 0 for no limit.
    subscriptions: of one gateway.  filters: in one SUBSCRIBE.
    subscribe: whether a gateway is subscribed to some topics automatically.
    moves: whether topo/add takes a sub-device from another gateway, or is refused.
    error_data: whether /ext/error names the device.
    connects: of all devices of the account, in a second; 0 for no limit.
    messages: those that one device publishes in a second, by QoS 0 and 1; 0 for no limit.
    payload: bytes of a message.
    kept: the newest messages of a device that can be read.
    """

    children: int = 2_000
    batch: int = 30
    proxied: int = 10
    sessions: int = 50
    logins: int = 200
    child_logins: int = 5
    subscriptions: int = 100
    filters: int = 8
    subscribe: bool = True
    moves: bool = False
    error_data: bool = False
    connects: int = 500
    messages: tuple[int, int] = (30, 10)
    payload: int = 256 * 1024
    kept: int = 2000
