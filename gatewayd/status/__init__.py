"""6  Reported: to D-Bus, to systemd.  Delegates, and decides nothing."""
