"""The service. A room imports only rooms to its left; app.py puts them together:

errors, domain, config, telemetry, database, auth, billing, providers, requests, pipeline,
reporting, api, dashboard.
"""
