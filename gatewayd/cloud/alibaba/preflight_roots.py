"""What a preflight says of the root certificates that are trusted at Alibaba Cloud."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gatewayd.cloud import preflight_roots
from gatewayd.cloud.alibaba import endpoint
from gatewayd.cloud.alibaba.endpoint import Instance
from gatewayd.cloud.certificates import Root
from gatewayd.cloud.checks import Check, Verdict
from gatewayd.cloud.preflight_roots import Roots
from gatewayd.errors import ConfigError

OK, UNSURE, FAILED = Verdict.OK, Verdict.UNSURE, Verdict.FAILED


def needed(roots: Roots, host: str, port: int, *, trusted: bool) -> Check | None:
    """Say whether the root that vouches for an endpoint of the vendor is trusted.

    trusted: whether the server was, just now.  None for an endpoint of the customer's own, and
    where nothing is known.
    """
    root = endpoint.root_for(host, port)
    if root is None or isinstance(roots, ConfigError):
        return None
    if roots is None:
        return _of_the_system(root, port, trusted=trusted)
    if any(one.sha256 == root.sha256 for one in roots):
        return Check("root", OK, f"ca_file has {root.name}, which port {port} needs.")
    text = f"ca_file lacks {root.name}, which port {port} needs"
    if trusted:
        text, remedy = f"{text}, and yet vouches for the server.", "Make sure who runs the server."
        return Check("root", UNSURE, text, remedy)
    return Check("root", FAILED, f"{text}.", f"{_get(root)} add it to ca_file.")


def _of_the_system(root: endpoint.Root, port: int, *, trusted: bool) -> Check | None:
    if trusted:
        return Check("root", OK, "The system vouches for the server.")
    if root is not endpoint.PRIVATE:
        return None
    text = f"Port {port} needs {root.name}, which no system has."
    return Check("root", FAILED, text, f"{_get(root)} set ca_file to it.")


def _get(root: endpoint.Root) -> str:
    return f"Get {root.name} ({root.published}), compare its SHA-256 with {root.sha256}, and"


def told(roots: Roots, hosts: Iterable[str], now: float) -> Iterator[Check]:
    """Say which roots are trusted.  now: seconds since the epoch."""
    custom = any(endpoint.instance_of(host) is Instance.CUSTOM for host in hosts)
    return preflight_roots.told(roots, lambda root: certificate(root, now, custom=custom))


def certificate(root: Root, now: float, *, custom: bool) -> Check:
    """Say which root this is, by its fingerprint.

    custom: whether an endpoint is the customer's own, so that its root may be, too.
    """
    known = endpoint.root_of(root.sha256)
    whose = f"is the vendor's {known.name}" if known else "is none that the vendor is known to use"
    expected = known is not None or custom
    return preflight_roots.certificate(root, now, whose, expected=expected)
