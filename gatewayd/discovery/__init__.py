"""Discovery: sightings on the LAN become devices, and silence becomes a loss."""
