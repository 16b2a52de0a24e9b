"""3  Registering: the cloud is asked on the child's behalf, and what it issues is made durable."""
