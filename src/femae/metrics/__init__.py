"""Figures of predictions against labels, in numpy: F1, calibration, bootstrap (paper, section 4.3)."""
