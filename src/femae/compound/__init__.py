"""From six probabilities to compounds and the label for people, and smoothing; pure numpy (paper, section 3.5)."""
