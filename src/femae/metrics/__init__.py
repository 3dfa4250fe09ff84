"""Metrics of predictions against labels, in numpy: F1, calibration, ranking, bootstrap (paper, section 4.3)."""
