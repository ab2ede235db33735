"""Connectors: the delivery ledger, its workers, and one folder for each channel."""
