"""Discovery in a process of its own, which has no secret, no state, no bus and no rules."""
