"""Power cuts, simulated below SQLite: what it asked of the disk is recorded, and cut short."""
