"""What happens to secrets when gatewayd is killed again and again."""
