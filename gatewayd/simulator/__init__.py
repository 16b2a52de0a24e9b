"""Simulated clouds and a simulated LAN, with named faults."""
