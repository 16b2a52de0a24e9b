"""PROFINET devices, found below IP by a process that can do nothing else: the link helper."""
