"""`openaibatching keys create | list | rotate | revoke`, on the servers' database directly.

command.py   the command line; what is done; what ends how
shown.py     what is written to stdout and stderr
"""
