"""What the protocols of devices say: their messages, and what identifies a device in them.  Pure."""
