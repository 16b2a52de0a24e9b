"""Huawei Cloud IoTDA."""
