"""What the platform wants of devices, and what it is answered."""
