"""The router: one record per delivery, with the address it goes to."""
