"""OPC UA: which servers a host has, and who they are."""
