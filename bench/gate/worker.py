"""A process that does commands of one revision, each in a child of its own, and says what they took.

Started as `python -P worker.py` with PYTHONPATH at the source of a revision, whatever revision that is: all it asks for
is `bench.cli.main`. It reads lines of JSON: `{"import": [...]}` names modules to import, a list is the arguments of a
command. It answers each with a line of JSON; a command's has exit code, seconds, peak memory in MiB, and the modules
that it has imported. A child starts with what is imported here and nothing else: no data in memory, no cache of an
earlier command.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time


def answer_in_child(arguments: list[str]) -> dict[str, object]:
    """What a command did, in a fork of this process; only a code where the child died."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w") as out:
            json.dump(measured(arguments), out)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else {"code": os.waitstatus_to_exitcode(status)}


def measured(arguments: list[str]) -> dict[str, object]:
    """A command's exit code, seconds and peak memory."""
    from bench.cli import main

    start = time.perf_counter()
    code = main(arguments)
    seconds = time.perf_counter() - start
    peak = {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        peak["peak_gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return {"code": code, "seconds": seconds, **peak, "modules": sorted(sys.modules)}


def imported(names: list[str]) -> dict[str, object]:
    """Import the named modules, and nothing more to say."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # some modules are made by what imports them
            continue
    return {}


def serve() -> None:
    """Do what the lines say until they end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a command prints is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        answer = imported(asked["import"]) if isinstance(asked, dict) else answer_in_child(asked)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
