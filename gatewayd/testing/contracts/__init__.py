"""Suites of laws that a plug-in proves itself by: inherit one, and build the plug-in."""
