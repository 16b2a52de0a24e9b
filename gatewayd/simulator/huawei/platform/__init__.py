"""What the simulated Huawei platform keeps.

Devices, products, certificates, templates, policies.
"""
