"""Sources that ask: what each protocol says is pure, and one mechanism sends, reads and bounds."""
