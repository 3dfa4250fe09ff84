"""From six probabilities to compounds and the label for people, and their smoothing; pure numpy (paper, section 3.5)."""
