"""Frames of films and pictures, local or in object stores, with their own times; and annotated films written."""
