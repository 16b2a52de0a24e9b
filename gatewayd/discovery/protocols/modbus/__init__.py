"""Modbus TCP: who a unit is."""
