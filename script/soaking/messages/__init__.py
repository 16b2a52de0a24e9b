"""Kills and power cuts while children speak: what was acknowledged arrives, in order."""
