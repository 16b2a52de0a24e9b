"""Births: what devices announce at brokers of the site, in the dialects of their firmware."""
