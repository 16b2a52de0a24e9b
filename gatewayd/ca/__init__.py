"""A certificate authority: its key, its certificates, and what it signs."""
