"""The far side: what a cloud is, and how to speak to each."""
