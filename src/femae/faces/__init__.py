"""Faces in pictures: detectors behind one protocol, non-maximum suppression, ids over time, and crops."""
