"""What lies between the socket of the bus and GLib: it sees each message before it is parsed."""
