"""Both clouds and a LAN of children, played faithfully, with named faults."""
