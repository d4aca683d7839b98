"""A caller's call: read, named, stored, waited for. Knows no batch and no HTTP server."""
