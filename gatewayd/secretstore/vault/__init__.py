"""The vault: an encrypted file of secrets, opened by key slots."""
