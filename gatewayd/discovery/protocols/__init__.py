"""What devices say in each protocol: their messages, and what identifies a device there.  Pure."""
