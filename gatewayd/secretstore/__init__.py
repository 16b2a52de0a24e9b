"""Secret stores: the port, the vault and its key slots, and keyrings."""
