"""The exceptions that gatewayd raises on purpose.  Our exception hierarchy, and who must act:

    GatewayError
    ├── ConfigError            the operator: a file has a wrong key or value
    ├── PluginError            the operator: a named plug-in is missing or broken
    ├── BusError               the administrator of the message bus; it is tried again
    │   └── BusNameTaken           stop the other gatewayd on this bus
    ├── CallerError            the caller of a D-Bus method
    │   ├── NoSuchDevice
    │   ├── AmbiguousId
    │   ├── NoSuchProvider
    │   ├── WrongState
    │   ├── NotAdmitted
    │   ├── InvalidArgs
    │   ├── AccessDenied
    │   ├── InteractionRequired    allow polkit to ask for a password
    │   ├── NotSupported           choose another backend
    │   ├── CloudUnreachable       try again when the cloud can be reached
    │   └── Busy                   try again later
    ├── DiscoveryError         the administrator of the network, or of the discoverer's settings
    │   ├── DiscoveryFatal         this discoverer cannot work here
    │   └── DiscoveryRetry         none: it is tried again
    ├── ConsoleError           the operator: a request to the API of a cloud's console failed
    │   └── ConsoleRefused         the API refuses it, by a code
    ├── SiteError              the operator: etcd, by which gateways share a site
    │   ├── EtcdUnreachable        none: it is tried again, when etcd answers and has a quorum
    │   ├── EtcdRefused            correct user, password or rights
    │   └── LeaseGone              none: the gateway gets a new one
    └── StoreError             the operator: the disk or the key of the secret store
        ├── StoreSealed            provide the key: without it nothing can be read or written
        ├── StoreRolledBack        restore the newest copy, or accept this one: it is read only
        ├── StoreCloned            say whether the store belongs to this machine now
        ├── StoreUnavailable       none: it is tried again
        ├── StoreFull              free space on the disk
        ├── RecordChanged          none: the newer change of the record stands
        ├── SecretNotFound         none: the slot is empty
        ├── SecretCorrupt          none: the damaged slot is quarantined
        ├── OwnershipLost          none: another gateway of the site has the child now
        ├── BlobDamaged            none: what this gateway has of the child is used
        └── BlobTooLarge           forget what the child has at clouds that it has left

The reply of a cloud is not an error but an `Outcome` (cloud/provider.py): each of them is expected.
"""

from __future__ import annotations


class GatewayError(Exception):
    """The root of the hierarchy.  Its text may be shown, and holds no secret."""


class ConfigError(GatewayError):
    """A configuration or rule file is wrong; the text names file, key and remedy."""


class PluginError(GatewayError):
    """A plug-in named in the configuration cannot be used."""


class BusError(GatewayError):
    """The message bus cannot be used."""


class BusNameTaken(BusError):
    """Another process owns the name on the message bus."""


class CallerError(GatewayError):
    """A D-Bus method cannot do what its caller requested."""


class NoSuchDevice(CallerError):
    """No child has this id."""


class AmbiguousId(CallerError):
    """More than one child's id begins so."""


class NoSuchProvider(CallerError):
    """No cloud of this name is configured."""


class WrongState(CallerError):
    """The state of the child does not allow this."""


class NotAdmitted(CallerError):
    """No rule says to which product the child belongs."""


class InvalidArgs(CallerError):
    """An argument of the method is invalid."""


class AccessDenied(CallerError):
    """The caller may not do this."""


class InteractionRequired(CallerError):
    """This needs authentication, and the caller did not allow an interactive request for it."""


class NotSupported(CallerError):
    """The backend in use cannot do this."""


class CloudUnreachable(CallerError):
    """This needs a request to the cloud, which failed."""


class Busy(CallerError):
    """Too many calls are under way; try again."""


class DiscoveryError(GatewayError):
    """A discoverer cannot work."""


class DiscoveryFatal(DiscoveryError):
    """A discoverer cannot work here; trying again would not help."""


class DiscoveryRetry(DiscoveryError):
    """A discoverer cannot work now; it may in `after` seconds."""

    def __init__(self, text: str, after: float) -> None:
        super().__init__(text)
        self.after = after


class ConsoleError(GatewayError):
    """A request to the API of a cloud's console failed."""


class ConsoleRefused(ConsoleError):
    """The API refuses a request.

    code: the vendor's, as "IOTDA.014000"; "" where it sent none.
    status: of HTTP; 0 where it says nothing.
    """

    def __init__(self, text: str, code: str, status: int = 0) -> None:
        super().__init__(text)
        self.code, self.status = code, status


class SiteError(GatewayError):
    """What gateways of one site share by etcd cannot be read or written."""


class EtcdUnreachable(SiteError):
    """No member of etcd answers, or those that do have no quorum."""


class EtcdUseless(EtcdUnreachable):
    """What etcd answers is too large, or of no form: nothing that a gateway wrote is."""


class EtcdRefused(SiteError):
    """etcd refuses a request, or does not answer as etcd does."""


class LeaseGone(SiteError):
    """etcd does not have the lease any more: what was written with it is gone."""


class StoreError(GatewayError):
    """The durable store failed."""


class StoreSealed(StoreError):
    """The store has no key."""


class StoreRolledBack(StoreError):
    """The store may be an old copy of itself; nothing is written until an operator decides."""


class StoreCloned(StoreError):
    """The store belongs to another machine; no one is logged in until an operator decides."""


class StoreUnavailable(StoreError):
    """The store cannot be used now."""


class StoreFull(StoreError):
    """The disk is full."""


class RecordChanged(StoreError):
    """The record was changed meanwhile, so that this change of it no longer applies."""


class SecretNotFound(StoreError):
    """The slot is empty."""


class SecretCorrupt(StoreError):
    """A slot cannot be decrypted: its bytes are damaged, or belong to another slot."""


class OwnershipLost(StoreError):
    """The child is not this gateway's any more, so that nothing of it is written or sent."""


class BlobDamaged(StoreError):
    """What the site has of a child cannot be opened: it is damaged, or belongs to another key."""


class ShardOverfull(StoreError):
    """etcd has more keys of a shard's children than are read."""


class BlobTooLarge(StoreError):
    """What is known of a child is more than the site keeps of one."""
