"""BACnet/IP: controllers of buildings, and what is behind their routers."""
