"""`femae evaluate`: predictions against labels. It reads, joins, measures and prints; formulas are in femae.metrics."""
