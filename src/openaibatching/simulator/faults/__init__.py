"""What goes wrong, by a seed or on demand. It knows nothing of files, batches or HTTP."""
