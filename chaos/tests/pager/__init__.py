"""A pager exchange: a channel of nobody, as different from the others as a channel may be."""
