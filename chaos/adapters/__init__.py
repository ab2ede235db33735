"""How the outside is reached: the platform's API, Nomad, the provider's receipts."""
