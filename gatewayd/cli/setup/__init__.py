"""`gatewayctl setup`: from an installed package to children online, by questions or a file."""
