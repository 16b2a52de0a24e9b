"""`gatewayctl discover`: search for devices, show what was refused, and record what comes."""
