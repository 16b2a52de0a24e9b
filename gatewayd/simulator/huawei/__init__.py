"""The simulated Huawei Cloud IoT Device Access (IoTDA)."""
