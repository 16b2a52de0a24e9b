"""CoAP: messages, links, and what they show of devices."""
