"""The commands for Huawei Cloud IoTDA: its provisioning templates, and the device CA."""
