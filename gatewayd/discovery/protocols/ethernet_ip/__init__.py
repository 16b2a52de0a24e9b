"""EtherNet/IP: the question to whom a device is, and its answer."""
