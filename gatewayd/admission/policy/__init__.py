"""Admission policy: rules matched against evidence, and the decision that follows.  Pure."""
