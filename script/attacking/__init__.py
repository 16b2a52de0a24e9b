"""What strangers may do, by the thousand: the campaigns of script/attack."""
