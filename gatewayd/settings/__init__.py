"""Configuration files: read, and turned into typed dataclasses with every problem noted."""
