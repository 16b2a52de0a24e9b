"""KNXnet/IP: the search for interfaces and routers of KNX installations."""
