"""`femae export`: converts a run or an ensemble to one model file, in 32 or 8 bits, and compares the two."""
