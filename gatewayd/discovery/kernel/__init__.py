"""What the kernel says of the network: its interfaces, and its neighbours."""
