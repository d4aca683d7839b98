"""The `openaibatching` command and all that it can do. Knows the service only to start it."""
