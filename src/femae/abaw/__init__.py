"""Submission files of the ABAW challenge from tables of predictions: aligned, merged, validated, scored."""
