"""The OpenAPI document of the API. Knows no handler."""
