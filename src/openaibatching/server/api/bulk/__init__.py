"""POST /v1/requests with many lines: in and out as streams."""
