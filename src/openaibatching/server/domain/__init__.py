"""What the service speaks of: requests, batches, JSON. Pure; knows no table and no clock."""
