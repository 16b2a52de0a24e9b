"""Registration: a device gets its identity and secret from a cloud."""
