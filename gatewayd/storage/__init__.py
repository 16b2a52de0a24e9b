"""Durable storage: the commit thread, state.db and its agreement with the secrets."""
