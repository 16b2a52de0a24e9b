"""The simulated LAN: children that answer by multicast DNS, and an attacker."""
