"""Every code block of README and of the pages, run as it stands there (docs/pages.py says how)."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from docs.conftest import Place
from docs.pages import (
    ELSEWHERE,
    NOT_RUN,
    PAGES,
    Block,
    Command,
    blocks,
    missing_programs,
    reason,
    save,
)
from docs.shell import Shell, is_server
from docs.shown import matches
from support.source import ROOT

# A page that shows one of these shows what there is before OpenAI has finished.
UNFINISHED = ("202 Accepted", '"has_completed":false', "queued", "in_progress", "Still in progress")
# What is changed in a command, and why.
CHANGED = {
    "examples/classify.py questions.csv": (
        "examples/classify.py --every 0.5 questions.csv",
        "a minute between two rounds is too long for a test",
    )
}
JSONL: Any = {"headers": {"Content-Type": "application/jsonl"}}
MADE: dict[str, tuple[int, str]] = {}
HERE = [page for page in PAGES if page not in ELSEWHERE]


def not_run() -> Iterator[tuple[str, str]]:
    """(where and what, why) of all that is not run, or not quite as it stands."""
    for words, (instead, why) in CHANGED.items():
        yield f"{words!r} is run as {instead!r}", why
    yield from ((page, why) for page, why in ELSEWHERE.items() if page in PAGES)
    for page in HERE:
        for block in blocks(page):
            texts = [(block.line, block.text)]
            if block.language == "console":
                texts = [(command.line, command.text) for command in block.commands()]
            for line, text in texts:
                if not_here := reason(text):
                    yield f"{page}:{line} {text.splitlines()[0].strip()}", not_here


def is_shown(place: Place, shown: str, said: str) -> bool:
    return matches(shown, place.there(said))


def expect(place: Place, where: str, shown: str, said: str) -> None:
    assert is_shown(place, shown, said), f"{where} shows\n{shown}\nand it said\n{said}"


def set_clock(place: Place, shown: str) -> None:
    """OpenAI finishes what it gets at once, unless the page shows something unfinished."""
    if any(word in shown for word in UNFINISHED):
        place.server.clock.stop()
    else:
        place.server.clock.run()


def has_started(place: Place, command: Command, said: str) -> bool:
    word = "server_started" if "serve" in command.text else "http://"
    return word in said and is_shown(place, command.shown, said)


def run_make(place: Place, text: str) -> tuple[int, str]:
    """A command for the checkout, which depends on nothing of the page: once for all pages."""
    if text not in MADE:
        ran = subprocess.run(
            ["bash", "-c", text], cwd=ROOT, env=place.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300,
        )  # fmt: skip
        MADE[text] = ran.returncode, ran.stdout
    return MADE[text]


def run_console(place: Place, shell: Shell, block: Block) -> None:
    for command in block.commands():
        if reason(command.text):
            continue
        set_clock(place, command.shown)
        text = place.here(command.text)
        for words, (instead, _) in CHANGED.items():
            text = text.replace(words, instead)
        where = f"{block.page}:{command.line}: $ {command.text}"
        if is_server(text):
            text = f"export PORT={place.next_port()}\n{text}"
            shell.start(text, partial(has_started, place, command))
            continue
        code, said = run_make(place, text) if text.startswith("make ") else shell.run(text)
        assert code == 0, f"{where} ended with {code}:\n{said}"
        expect(place, where, command.shown, said)


def run_python(place: Place, block: Block, names: dict[str, Any]) -> None:
    code = place.here(block.text)
    if block.file():
        save(block, place.folder, code)
        return
    where = f"{block.page}:{block.line}"
    # Line numbers as in the page, so that an error says where.
    compiled = compile("\n" * (block.line - 1) + code, block.page, "exec")
    for position, shown in enumerate(block.printed or ("",)):
        if position == 0:
            set_clock(place, shown)
        else:
            place.server.finish()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compiled, names)
        expect(place, where, shown, printed.getvalue())


def run_json(place: Place, block: Block) -> None:
    """It has to be JSON; a line of many calls at once is sent as one, and accepted."""
    if "custom_id" in json.loads(block.text):
        line = json.dumps(json.loads(block.text)).encode()
        with place.server.client() as client:
            said = client.post("/requests", content=line, options=JSONL, cast_to=object)
        assert json.loads(str(said))["response"]["status_code"] in (200, 202), said


def run_block(place: Place, shell: Shell, block: Block, names: dict[str, Any]) -> None:
    match block.language:
        case "console":
            run_console(place, shell, block)
        case "python":
            run_python(place, block, names)
        case "json":
            run_json(place, block)
        case "sql":
            subprocess.run(
                ["psql", "-v", "ON_ERROR_STOP=1", "-f", "-", place.database_url],
                env=place.environment(), input=block.text, text=True, check=True,
            )  # fmt: skip
        case "ts":
            pass  # clients/typescript/tests/readme.test.ts runs it: it has the package
        case language:
            raise AssertionError(f"{block.page}:{block.line}: {language or 'no language'}: " + HOW)


HOW = "give it a language that a test can run, or say in NOT_RUN of tests/docs/pages.py why not"


# The examples leave their clients open, as their users do: those sockets end with the names.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("page", HERE)
def test_every_block_of_the_page_runs_as_it_stands(
    page: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing := missing_programs(page):
        pytest.skip(f"{page} needs {missing}")
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "BATCH_SERVER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BATCH_SERVER_API_KEY", place.server.key)
    monkeypatch.setenv("BATCH_SERVER_URL", place.server.url)
    monkeypatch.chdir(place.folder)
    shell = Shell(place.folder, place.environment())
    # Not exported: a command has them in its environment only if the page puts them there.
    shell.run("\n".join(f"{name}='{value}'" for name, value in place.variables().items()))
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        for block in blocks(page):
            if not reason(block.text):
                run_block(place, shell, block, names)
    finally:
        shell.close()
        names.clear()
        gc.collect()


@pytest.mark.parametrize(("what", "why"), sorted(not_run()))
def test_not_run_here(what: str, why: str) -> None:
    """The table of what is not run: pytest prints it as skipped, each with its reason."""
    pytest.skip(f"{what}: {why}")


def test_the_table_of_what_is_not_run_names_nothing_that_is_gone() -> None:
    written = "".join((ROOT / page).read_text("utf-8") for page in HERE)
    assert [words for words in CHANGED if words not in written] == []
    reasons = {why for _, why in not_run()}
    assert [start for start, why in NOT_RUN.items() if why not in reasons] == []
