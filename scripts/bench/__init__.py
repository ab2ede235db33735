"""Measures the whole platform under load, beside what its bare parts can do."""
