"""Why a device was not seen: what was refused, and recordings of what came."""
