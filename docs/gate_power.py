"""What `sdseg gate --against` sees: `python docs/gate_power.py [NAME ...] [--times N]`, in a clean checkout.

Every change below is made in the working tree of a clone, judged against its base, and taken back. A row says whether
the gate failed, and by which rules. docs/gate.md shows what came out.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

HOME = Path("runs/gate_power")
CLONE = HOME / "clone"
MATRIX = [
    *("profile=smoke", "methods=[sdseg,unet]", "device=cpu", "threads=1", "draws=2"),
    *("dataset.n_train=64", "dataset.n_val=8", "dataset.n_test=32", "dataset.empty_share=0.2"),
    *("train.steps=100", "train.validate_every=50"),
]
PREDICT, ITEMS, IMPORT = "bench/predicting.py", "bench/datasets/items.py", "from bench.picture import Grid\n"
TO_SIZE = "        image = to_method_size(case.image, task)"
AROUND = """

import time

_predict_cases, _kept = predict_cases, []


def predict_cases(*given, **more):
    start = time.perf_counter()
    answers = _predict_cases(*given, **more)
    {}
    return answers
"""


def asleep(share: float) -> list[tuple[str, str, str]]:
    """Every answer of a method takes so much longer."""
    return [(PREDICT, "", AROUND.format(f"time.sleep({share} * (time.perf_counter() - start))"))]


# Name -> what is done to which files: (file, text, other text); no text means the end of the file.
CHANGES: dict[str, list[tuple[str, str, str]]] = {
    "learning rate x 0.5": [("bench/conf/recipes.yaml", "lr: 2e-3", "lr: 1e-3")],
    "one flip dropped": [("sdseg/training/recipe.py", '= ("horizontal", "vertical")', '= ("horizontal",)')],
    "nearest instead of bilinear": [
        ("bench/datasets/geometry.py", 'mode="bilinear", align_corners=False, antialias=True', 'mode="nearest"')
    ],
    "off by one in DDIM": [
        ("sdseg/sampling.py", "(len(z_T),), len(schedule) - 1", "(len(z_T),), len(schedule) - 2"),
        ("sdseg/sampling.py", "i * timesteps / steps) - 1 for", "i * timesteps / steps) - 2 for"),
    ],
    "threshold .45": [
        ("sdseg/labels.py", "Prediction(score, score > 0.5)", "Prediction(score, score > 0.45)"),
        ("baselines/objectives.py", "probabilities > 0.5", "probabilities > 0.45"),
    ],
    "EMA off": [("sdseg/training/ema.py", "decay = min(", "decay = 0 * min(")],
    "a seed that is ignored": [
        ("sdseg/training/batches.py", "SeedSequence([seed, step, purpose, part])", "SeedSequence()"),
    ],
    "a metric that skips empty cases": [
        ("bench/metrics/overlap.py", "when_empty(pair, 0.0)", 'when_empty(pair, float("nan"))')
    ],
    "a copy too much": [(PREDICT, "", AROUND.format("_kept.append(bytearray(b'1') * 2**22)"))],
    "sleep of 10 % in predict": asleep(0.1),
    "sleep of 20 % in predict": asleep(0.2),
    "sleep of 50 % in predict": asleep(0.5),
    "sleep of 20 ms a case in the loader": [
        (ITEMS, TO_SIZE, f"        import time\n        time.sleep(0.02)\n{TO_SIZE}")
    ],
    "neutral: a word in the README": [("README.md", "", "\nMore words.\n")],
    "neutral: a comment": [("sdseg/sampling.py", "", "\n# A comment.\n")],
    "neutral: a private name": [("sdseg/training/trainer.py", "_BEGINNING", "_FIRST_STEPS")],
    "neutral: a docstring": [("baselines/objectives.py", '"""Soft Dice over', '"""A soft Dice over')],
    "neutral: a function more": [("bench/seeding.py", "", "\n\ndef unused() -> int:\n    return 0\n")],
    "neutral: the order of imports": [
        (PREDICT, IMPORT, ""),
        (PREDICT, "from bench.types import", f"{IMPORT}from bench.types import"),
    ],
}


def apply(name: str) -> None:
    """Make a change in the clone."""
    for file, text, other in CHANGES[name]:
        path = CLONE / file
        before = path.read_text(encoding="utf-8")
        if text and text not in before:
            raise SystemExit(f"{name}: {file} does not say {text!r} any more")
        path.write_text(before.replace(text, other) if text else before + other, encoding="utf-8")


def judge(matrix: list[str]) -> tuple[int, str, float]:
    """Exit code, what failed, and seconds of the gate on the clone as it is."""
    start = time.monotonic()
    line = [sys.executable, "-P", "-m", "bench.cli", "gate", "--against", "HEAD", *matrix]
    environment = {**os.environ, "PYTHONPATH": str(CLONE.resolve()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=HOME, env=environment, capture_output=True, text=True)
    (HOME / "last.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    rows = [re.split(r"\s{2,}", row) for row in done.stdout.splitlines() if "  FAIL" in row]
    said = "; ".join(f"{row[1]} ({row[-1].removeprefix('FAIL: ')})" for row in rows[:2])
    said += f"; {len(rows) - 2} more" if len(rows) > 2 else ""
    return done.returncode, said or (done.stderr.strip()[-200:] if done.returncode else ""), time.monotonic() - start


def git(*arguments: str) -> str:
    """What git says of the clone."""
    return subprocess.run(["git", "-C", str(CLONE), *arguments], check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Judge the changes asked for, or all, and print a row for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="words that a change's name contains")
    parser.add_argument("--times", type=int, default=1, help="each change with so many seeds")
    parser.add_argument("--without", default="LPIPS", help="kinds that are not judged, such as LPIPS,speed,memory")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="instead of the matrix's")
    asked = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    if not CLONE.exists():
        subprocess.run(["git", "clone", "--quiet", ".", str(CLONE)], check=True)
    given = {word.partition("=")[0] for word in asked.set}
    matrix = [word for word in MATRIX if word.partition("=")[0] not in given]
    matrix += [*asked.set, f"gate.without=[{asked.without}]"]
    base = git("rev-parse", "HEAD")[:12]
    chosen = [name for name in CHANGES if not asked.names or any(word in name for word in asked.names)]
    for seed, name in product(range(asked.times), chosen):  # another seed is another training of both sides
        git("checkout", "--quiet", ".")
        apply(name)
        for made in (HOME / "runs" / ".gate").glob("*"):
            if made.name != base:
                shutil.rmtree(made)  # the change is trained anew
        code, said, seconds = judge([*matrix, f"seeds=[{seed}]"])
        outcome = {0: "passed", 1: "caught"}.get(code, f"exit {code}")
        sys.stdout.write(f"| {name} | {outcome} | {said} | {seconds:.0f} s |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
