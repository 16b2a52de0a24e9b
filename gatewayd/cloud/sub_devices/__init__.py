"""What gateways with sub-devices have in common, whatever the cloud."""
