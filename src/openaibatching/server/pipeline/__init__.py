"""The steps of a batch, from the queue to its end. Knows no caller."""
