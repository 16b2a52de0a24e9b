"""Discovery in processes of their own, without state, bus and rules.

What reads the packets of strangers has no secret; sources that ask with one share another process,
which has that alone.
"""
