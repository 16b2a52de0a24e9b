"""The APIs of the clouds' consoles: what an owner clicks there, asked for with an access key."""
