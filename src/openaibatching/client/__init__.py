"""The clients: the official ones, pointed at a batch server.

They are subclasses with no HTTP of their own. All calls of the official SDK go through one method,
`request`, and all answers through another, `_process_response_data`; these two are what is
overridden, and everything that does no I/O is shared between the synchronous and the asynchronous
client:

    sync.py, asynchronous.py   the two clients and their resources
    options.py                 where the server is, and which options there are
    results.py                 an answer becomes one of our types
    waiting.py                 `wait=True`: how long to hold, how long to pause
    uploads.py                 `images.edit` as JSON
    signatures.py              the official signatures with our return types, for type checkers
"""
