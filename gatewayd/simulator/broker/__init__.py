"""The brokers of a plant: real ones, of the site and as a cloud."""
