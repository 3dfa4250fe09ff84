"""Submission files of the ABAW challenge: written from tables of predictions, validated, and scored."""
