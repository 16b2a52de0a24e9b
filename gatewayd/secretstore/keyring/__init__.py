"""A keyring as the secret store."""
