"""The leases of a DHCP server on this gateway: who has asked it for an address."""
