"""Doors: gatewayd as a client of brokers, with acknowledgements held until a message is durable."""
