"""UPnP: SSDP, and the descriptions that it leads to."""
