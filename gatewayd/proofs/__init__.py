"""Proofs: gatewayd connects to a device, which proves its key; what is pinned is checked again."""
