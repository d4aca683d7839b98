"""The engine over HTTP, as OpenAI's API. It decides nothing about batches."""
