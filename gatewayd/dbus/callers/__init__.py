"""Who calls: the user, from where, and what polkit lets them do."""
