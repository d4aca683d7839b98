"""`openaibatching run in.jsonl -o out.jsonl`: a batch input file through a batch server.

Client code: it needs the official package alone, and imports nothing of the server.

    command.py       the command line; what ends how
    words.py         how far a line has come
    input_file.py    where each line is in the file, and how far it has come
    input_lines.py   what an input line asks for, and what makes a sample of it. Pure
    hashes.py        which line has a custom_id or a body: millions of them in little memory
    output_file.py   the answers so far: what is there is not asked again
    rows.py          which of these answers still stand
    record.py        what each answer was asked for, in a file beside the output
    answers.py       what an output line says. Pure
    rounds.py        windows of lines, asked again and again until all are answered
    batch_server.py  the bulk door over HTTP
    progress.py      a bar on a terminal, else a line now and then

Where the server is, and what its refusals mean, it shares with the commands of `cli/remote`.
"""
