"""The API of Huawei Cloud IoTDA's console."""
