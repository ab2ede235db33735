"""Breaks the platform on purpose and measures what its users would have noticed."""
