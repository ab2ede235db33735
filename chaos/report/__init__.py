"""The report: one file that opens anywhere, for a manager's ten seconds and an engineer's hour."""
