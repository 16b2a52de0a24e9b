"""Commands by which a gateway is watched: its metrics, and what it does now."""
