"""Sessions: devices are kept online at their clouds."""
