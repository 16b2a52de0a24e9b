"""Brokers that the site has: what the messages there mean, by the table in the configuration."""
