"""How the gateway is watched: metrics for Prometheus, and notices to a unit of the operator's."""
