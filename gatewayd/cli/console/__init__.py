"""gatewayctl console: the steps in the clouds' consoles, from an operator's machine."""
