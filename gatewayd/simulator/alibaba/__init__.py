"""The simulated Alibaba Cloud IoT Platform."""
