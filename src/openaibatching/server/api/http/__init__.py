"""HTTP below the handlers: connections, their limits, what is read of a call. Knows no path."""
