"""What all sources need that read packets of one link: which it is, whose, and how many."""
