"""Looking at a batch server and steering it from a terminal or a script, over its HTTP API.

Client code: it needs the official package alone, and imports nothing of the server. On a terminal
`rich` draws the tables if it is there (the server brings it); anywhere else they are plain text.

    words.py      what can come between, and the exit codes
    address.py    where the server is and what opens it; what a reply that is none of its own means
    server.py     the API: one question, one reply
    texts.py      times, money and durations as people read them; nothing that moves a cursor. Pure
    page.py       tables and notes, whatever they are shown on
    screen.py     a page as plain text, drawn by rich, or the API's own JSON
    command.py    what all commands share: their options, and how they end
    status.py     the queue, the batches, the failures and the money at a glance
    watch.py      the same again and again, in place
    requests.py, batches.py, flush.py, cost.py: one command each
"""
