"""gatewayd's own broker: an instance of mosquitto, and who may use it, in what way."""
