"""5  Online and offline: a session for each child that is here."""
