"""WS-Discovery: cameras of ONVIF, printers and Windows hosts."""
