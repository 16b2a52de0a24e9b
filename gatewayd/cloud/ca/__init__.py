"""A device CA: its key, its certificates, its generations and the commands on it."""
