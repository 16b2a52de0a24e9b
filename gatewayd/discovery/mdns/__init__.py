"""Discovery by mDNS and DNS-SD."""
