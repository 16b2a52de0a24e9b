"""What the process runs on: time, back-off, the journal, systemd, SQLite, bounded calls."""
