"""The commands for Huawei Cloud IoTDA: its provisioning templates."""
