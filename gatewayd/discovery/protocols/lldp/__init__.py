"""LLDP: who is at the other end of each cable, as lldpd knows."""
