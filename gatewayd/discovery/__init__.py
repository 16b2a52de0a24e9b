"""1  Seen on the LAN: many sightings become one device, and silence becomes a loss."""
