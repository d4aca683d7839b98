"""Who calls, and what that key may do; the audit. Knows no request."""
