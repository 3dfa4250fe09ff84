"""Frames out of films and pictures, here and in stores, with their own times; and films written."""
