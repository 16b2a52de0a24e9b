"""The calls by which programs of the owner use the simulated Alibaba cloud."""
