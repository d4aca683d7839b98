"""The clients: the official ones, pointed at a batch server.

They are subclasses with no HTTP of their own. All calls of the official SDK go through one method,
`request`, and all answers through another, `_process_response_data`; these two are what is
overridden. Everything that does no I/O is shared between the two clients.
"""
