"""The outbox: messages that are durable until their cloud has them."""
