"""SNMP: what an agent says of its device."""
