"""Instagram Messaging."""
