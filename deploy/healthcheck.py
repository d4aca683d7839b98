"""The image's health check: ends with 0 if the server in this container answers.

With the standard library alone, because it runs every half minute; and not by `urllib`, which
would ask a proxy that the environment names.
"""

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

TIMEOUT_S = 5


def connection() -> HTTPConnection:
    """To the address that the server was told to listen on."""
    host, port = os.environ.get("HOST") or "127.0.0.1", int(os.environ.get("PORT") or 9487)
    if not os.environ.get("SSL_CERTFILE"):
        return HTTPConnection(host, port, timeout=TIMEOUT_S)
    # It asks itself: the name in the certificate is another one.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


asked = connection()
try:
    asked.request("GET", "/health")
    status = asked.getresponse().status
except (OSError, HTTPException) as error:  # nothing there, or nothing that speaks HTTP
    sys.exit(f"no answer: {error!r}")
sys.exit(0 if status == 200 else f"status {status}")
