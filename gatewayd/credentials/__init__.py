"""Credentials: the programs that hold the sessions of children, and what they get for that."""
