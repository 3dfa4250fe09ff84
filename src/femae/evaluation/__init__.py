"""`femae evaluate`: reads predictions and labels, joins, measures and prints; the formulas are in femae.metrics."""
