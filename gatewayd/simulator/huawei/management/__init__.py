"""The management interface of the simulated Huawei platform."""
