"""Any broker of MQTT 3.1.1 as a cloud: what a child is there, a table of the configuration says."""
