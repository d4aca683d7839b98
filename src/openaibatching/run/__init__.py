"""`openaibatching run in.jsonl -o out.jsonl`: a batch input file through a batch server.

Client code: it needs the official package alone, and imports nothing of the server.

    command.py       the command line; what ends how
    words.py         how far a line has come
    input_file.py    where each line stands in the file, and how far it has come
    names.py         which line has a custom_id: millions of them in little memory
    output_file.py   the answers so far: what is there is not asked again
    answers.py       what an output line says; what a bad input line is answered. Pure
    rounds.py        windows of lines, asked again and again until all are answered
    batch_server.py  the bulk door over HTTP
    progress.py      a bar on a terminal, else a line now and then

Where the server is, and what its refusals mean, it shares with the other `commands/`.
"""
