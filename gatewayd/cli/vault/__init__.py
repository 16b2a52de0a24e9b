"""Commands about the vault, its key and its recovery keys."""
