"""The HTTP API: paths, handlers, replies. Knows no statement."""
