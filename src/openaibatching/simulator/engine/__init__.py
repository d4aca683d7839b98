"""Files, batches and what becomes of each line, on a clock. It knows nothing of HTTP."""
