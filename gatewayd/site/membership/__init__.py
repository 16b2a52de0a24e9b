"""Which gateways are members of a site, and the keys that they share."""
