"""What a child says: received at a door, durable in the outbox, sent by its lane."""
