"""Cloud providers: the provider interface and its implementations."""
