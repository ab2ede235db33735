"""The public edge: API keys, the way to each service, webhooks."""
