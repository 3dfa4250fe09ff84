"""Reads frames of films and pictures, local or remote, with their own times, and writes annotated films."""
