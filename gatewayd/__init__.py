"""gatewayd: discovers child devices, registers each at a cloud, keeps what it issues."""

__version__ = "0.1.0"
