"""What Alibaba Cloud wants of devices, and what it is answered."""
