"""4  The secret durable: when `put` returns, a power cut can do no harm."""
