"""What devices say, as the platform has it."""
