"""Pictures that are there twice: `phash` makes a fingerprint, `near` finds near ones, `find` pairs of a whole set.

Imports no other room.
"""
