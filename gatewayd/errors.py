"""The tree of errors.  A leaf says who must act.

    GatewayError
    ├── ConfigError            the operator: a file names a wrong key or value
    ├── PluginError            the operator: a named plug-in is missing or broken
    ├── BusError               whoever runs the message bus, or another gatewayd on it
    ├── CallerError            the caller of a D-Bus method
    │   ├── NoSuchDevice
    │   ├── AmbiguousId
    │   ├── NoSuchProvider
    │   ├── WrongState
    │   ├── NotAdmitted
    │   ├── InvalidArgs
    │   ├── AccessDenied
    │   ├── InteractionRequired    somebody would have to prove who they are
    │   ├── NotSupported           not with this backend
    │   ├── CloudUnreachable
    │   └── Busy
    ├── DiscoveryError         the network, or who configured it
    │   ├── DiscoveryFatal         this discoverer cannot serve here
    │   └── DiscoveryRetry         it may, later
    └── StoreError             the disk, the key, or who removed them
        ├── StoreSealed            no key: nothing can be read or written
        ├── StoreRolledBack        an old copy may have been put back: it is read only
        ├── StoreUnavailable       not now: retry
        ├── StoreFull              no room: free some
        ├── Overtaken              nobody: somebody else has changed the record meanwhile
        ├── SecretNotFound         no such slot
        └── SecretCorrupt          a slot that does not open; quarantined

What a cloud answers is no error but an `Outcome` (cloud/provider.py): each of them is expected.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Root of all that gatewayd raises on purpose.  Its text may be shown; it holds no secret."""


class ConfigError(GatewayError):
    """A configuration or rule file is wrong: its text names file, key and remedy."""


class PluginError(GatewayError):
    """A plug-in named in the configuration cannot be used."""


class BusError(GatewayError):
    """The message bus cannot be used."""


class CallerError(GatewayError):
    """The caller of a D-Bus method asked for what cannot be."""


class NoSuchDevice(CallerError):
    """No child has this id."""


class AmbiguousId(CallerError):
    """More than one child's id begins so."""


class NoSuchProvider(CallerError):
    """No cloud of this name is configured."""


class WrongState(CallerError):
    """The child is not in a state in which this may be asked."""


class NotAdmitted(CallerError):
    """Nothing says to which product the child belongs."""


class InvalidArgs(CallerError):
    """An argument is not what the method takes."""


class AccessDenied(CallerError):
    """The caller may not do this."""


class InteractionRequired(CallerError):
    """The caller may do this once somebody has proven who they are, and did not allow to ask."""


class NotSupported(CallerError):
    """What serves here cannot do this."""


class CloudUnreachable(CallerError):
    """The cloud has to be asked for this, and cannot be."""


class Busy(CallerError):
    """Too much is under way; try again."""


class DiscoveryError(GatewayError):
    """A discoverer cannot work."""


class DiscoveryFatal(DiscoveryError):
    """It cannot serve here; trying again would not help."""


class DiscoveryRetry(DiscoveryError):
    """It cannot serve now; `after` seconds from now it may."""

    def __init__(self, text: str, after: float) -> None:
        super().__init__(text)
        self.after = after


class StoreError(GatewayError):
    """The durable store did not do what was asked."""


class StoreSealed(StoreError):
    """The store has no key."""


class StoreRolledBack(StoreError):
    """The store may be an old copy of itself: nothing is written until an operator decides."""


class StoreUnavailable(StoreError):
    """The store cannot serve now."""


class StoreFull(StoreError):
    """There is no room left on the disk."""


class RecordChanged(StoreError):
    """The record is not what it was: what was to be written of it does not hold any more."""


class SecretNotFound(StoreError):
    """No secret is kept in this slot."""


class SecretCorrupt(StoreError):
    """A slot does not open: its bytes are damaged or belong elsewhere."""
