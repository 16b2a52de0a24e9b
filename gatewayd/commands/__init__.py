"""Commands: what a cloud wants of a child reaches it, or is refused, and is answered once."""
