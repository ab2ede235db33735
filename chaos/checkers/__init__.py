"""Pure judgements of a history."""
