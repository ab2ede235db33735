"""Users, their identities on channels, API keys and the audit log."""
