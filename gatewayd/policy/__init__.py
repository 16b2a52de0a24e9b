"""2  Admitted, held or rejected: pure, default no."""
