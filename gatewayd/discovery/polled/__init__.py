"""The sources that ask listed hosts."""
