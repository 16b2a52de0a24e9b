"""Key slots: each keeps a copy of the data keys, wrapped in its own way."""
