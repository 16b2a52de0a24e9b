"""The model of a product at the simulated Alibaba cloud: its TSL, reports, and commands."""
