"""The API of Alibaba Cloud IoT Platform's console."""
