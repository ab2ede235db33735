"""Messages and conversations: accepts, stores, and knows the status of each delivery."""
