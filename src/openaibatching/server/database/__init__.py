"""PostgreSQL: connections, the schema, named statements, the embedded one. Knows no request."""
