"""`femae export`: a run or an ensemble to one file for an engine, in 32 or 8 bits, checked against the original."""
