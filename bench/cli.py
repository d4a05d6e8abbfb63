"""The `sdseg` command: verbs, exit codes, one-line errors. The only module that prints."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bench import progress
from bench.config import CONF_DIR, expand, register_schema, sweep_jobs
from bench.errors import InputError, NotApplicableError, RunError

DONE, GATE_FAILED, BAD_INPUT, RUN_FAILED = 0, 1, 2, 3


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see sdseg {self.prog.removeprefix('sdseg').strip()} --help".replace("  ", " "))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 done, 1 a gate failed, 2 bad input, 3 a run failed)."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    warnings.filterwarnings("ignore")
    try:
        parsed, rest = _parser().parse_known_args(arguments)
        takes_overrides = parsed.verb in (*_STEPS, "gate")
        stray = [x for x in rest if not takes_overrides or (x.startswith("-") and x not in ("-m", "--multirun"))]
        if stray:
            raise InputError(f"unknown argument {stray[0]!r}; see sdseg {parsed.verb} --help")
        _listen()
        return parsed.function(parsed, rest)
    except (InputError, RunError) as error:
        if os.environ.get("SDSEG_DEBUG") == "1":
            raise
        _silence()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, InputError) else RUN_FAILED
    except KeyboardInterrupt:
        _silence()
        print("stopped; the same command continues where it was", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("SDSEG_DEBUG") == "1":
            raise
        _silence()
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(f"error: {message} (SDSEG_DEBUG=1 shows where)", file=sys.stderr)
        return RUN_FAILED


def _listen() -> None:
    terminal = sys.stderr.isatty()
    write = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    progress.listen(progress.BarHandler() if terminal else progress.LineHandler(write))


def _silence() -> None:
    progress.listen(logging.NullHandler())


_STEPS: dict[str, tuple[tuple[str, ...], str]] = {
    "run": (
        ("fit", "predict", "score"),
        "fit, predict and score every selected (method, dataset, seed); resumes",
    ),
    "fit": (("fit",), "train only"),
    "predict": (("predict",), "predict the test split with fitted methods"),
    "score": (("score",), "score stored predictions"),
}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sdseg", description="Benchmark of diffusion-based medical image segmentation.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(name: str, text: str, function: Callable[..., int], **options: Any) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text, **options)
        verb.set_defaults(function=function)
        return verb

    for name, (_, text) in _STEPS.items():
        epilog = "KEY=VALUE overrides such as profile=cpu dataset=folder dataset.root=DIR method=unet; -m sweeps"
        add(name, text, _steps, epilog=epilog)
    segment = add("segment", "masks for a folder of images or volumes, with a trained run", _segment)
    segment.add_argument("images", type=Path, metavar="IMAGES", help="folder or single file")
    segment.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder runs/.../seed*-*")
    segment.add_argument("--out", type=Path, required=True, metavar="DIR")
    score = add("score-folder", "score anybody's predictions against a folder of references", _score_folder)
    score.add_argument("pred", type=Path, metavar="PRED")
    score.add_argument("ref", type=Path, metavar="REF")
    score.add_argument("--out", type=Path, required=True, metavar="DIR")
    score.add_argument("--protocol", default="strict")
    weights = add("import-weights", "official .ckpt, CompVis .ckpt or diffusers folder to safetensors", _import_weights)
    weights.add_argument("src", type=Path, metavar="SRC", help="checkpoint file or folder")
    weights.add_argument("--out", type=Path, required=True, metavar="DIR")
    export = add("export", "a trained SDSeg run as an ONNX file, checked with onnxruntime", _export)
    export.add_argument("run", type=Path, metavar="RUN", help="run folder runs/.../seed*-*")
    export.add_argument("--out", type=Path, required=True, metavar="FILE.onnx")
    report = add("report", "tables, figures and the page from the records", _report)
    report.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    report.add_argument("--out", type=Path, metavar="DIR", help="default: RUNS/report")
    compare = add("compare", "are two runs different? effect, interval, p, by label", _compare)
    compare.add_argument("a", metavar="RUN_A", help="run folder runs/.../seed*-*, or a method with one run")
    compare.add_argument("b", metavar="RUN_B")
    compare.add_argument("--metric", default="Dice")
    compare.add_argument("--margin", type=float, default=0.01, help="how much worse still counts as not inferior")
    compare.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    epilog = "KEY=VALUE overrides choose the runs, and what is allowed: gate.memory=0.1"
    gate = add("gate", "judge runs against a committed reference, or make a new one", _gate, epilog=epilog)
    gate.add_argument("--reference", type=Path, metavar="FILE", help="default: bench/references/PROFILE-DEVICE.json")
    gate.add_argument("--promote", action="store_true", help="write the runs as the reference")
    gate.add_argument("--out", type=Path, metavar="FILE", help="where --promote writes")
    gate.add_argument("--accept", action="store_true", help="promote runs that fail against the file they replace")
    gate.add_argument("--all", action="store_true", help="show every judgement")
    doctor = add("doctor", "what this machine has, what is missing, how to get it", _doctor)
    doctor.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    return parser


def _steps(parsed: argparse.Namespace, overrides: list[str]) -> int:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and parsed.verb != "fit":
        raise InputError(f"several processes train only: torchrun -m bench.cli fit, then sdseg {parsed.verb} alone")
    if {"-m", "--multirun"} & set(overrides):
        return _sweep(parsed.verb, overrides)
    return run_cells(parsed.verb, overrides)


def run_cells(verb: str, overrides: list[str]) -> int:
    """Do a verb for every cell; a run that fails does not keep the others from finishing."""
    from bench.runner import run_cell

    steps, code = _STEPS[verb][0], DONE
    said: set[str] = set()
    cells = expand(overrides)
    for cell in cells:
        try:
            folder = run_cell(cell, steps)
        except NotApplicableError as error:
            print(f"{'left out' if len(cells) > 1 else 'error'}: {error}", file=sys.stderr)
            code = max(code, BAD_INPUT if len(cells) == 1 else DONE)
        except Exception as error:
            if os.environ.get("SDSEG_DEBUG") == "1":
                raise
            bad_input = isinstance(error, InputError)
            where = "" if bad_input else f"{cell.id}: "
            message = f"error: {where}{' '.join(str(error).split())}"
            if message not in said:  # bad data is bad for every method alike
                print(message, file=sys.stderr)
            said.add(message)
            code = max(code, BAD_INPUT if bad_input else RUN_FAILED)
        else:
            if os.environ.get("RANK", "0") == "0":
                print(f"{cell.id}: {folder}{_summary(folder)}")
    return code


def _summary(folder: Path) -> str:
    from bench.record import read_scores

    if not (folder / "scores.parquet").exists():
        return ""
    frame = read_scores(folder / "scores.parquet")
    # As the tables do: labels within a draw, draws within a case, then cases.
    by_draw = frame[frame["draw"] >= 0].groupby(["metric", "case", "draw"], sort=False)["value"].mean()
    means = by_draw.groupby(["metric", "case"], sort=False).mean().groupby("metric", sort=False).mean()
    return "".join(f"  {name} {value:.4f}" for name, value in means.items())


def _sweep(verb: str, overrides: list[str]) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    plain = [o for o in overrides if o not in ("-m", "--multirun")]
    for job_overrides in sweep_jobs(plain):
        expand(job_overrides)  # every job is checked before the first one starts
    codes: list[int] = []
    register_schema()

    @hydra.main(config_path=str(CONF_DIR), config_name="config", version_base="1.3")
    def job(config: DictConfig) -> None:
        codes.append(run_cells(verb, list(HydraConfig.get().overrides.task)))

    quiet = [
        "hydra.output_subdir=null",
        "hydra.sweep.dir=runs/sweeps",
        "hydra.sweep.subdir=.",
        "hydra/job_logging=none",
    ]
    sys.argv = [f"sdseg-{verb}", "--multirun", "hydra/hydra_logging=none", *quiet, *plain]
    job()
    return max(codes, default=DONE)


def _segment(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.segment import segment_folder

    written = segment_folder(parsed.images, parsed.model, parsed.out)
    print(f"{len(written)} masks written to {parsed.out}")
    return DONE


def _score_folder(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.folder_scores import score_folder

    summary = score_folder(parsed.pred, parsed.ref, parsed.out, protocol=parsed.protocol)
    for metric, by_label in summary["metrics"].items():
        for label, facts in by_label.items():
            value = "undefined" if facts["mean"] is None else f"{facts['mean']:.4f}"
            print(f"{metric} {label}: {value} (n {facts['n']}, undefined {facts['n_undefined']})")
    print(f"scores of {summary['n_cases']} cases written to {parsed.out}")
    return DONE


def _import_weights(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.build import import_by_name

    try:
        print(import_by_name("sdseg.weights.importing.import_weights")(parsed.src, parsed.out))
    except ValueError as error:
        raise InputError(str(error)) from error
    return DONE


def _export(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.export import export_run

    found = export_run(parsed.run, parsed.out)
    difference = f"scores differ by at most {found.score_difference:.1e}"
    print(f"{parsed.out}: {difference}, {found.flipped} of {found.pixels} mask pixels fell on the other side")
    return DONE


def _report(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.build import import_by_name

    if not parsed.runs.is_dir():
        raise InputError(f"{parsed.runs}: no such folder; give --runs DIR, or make runs with sdseg run")
    result = import_by_name("reports.build.build_report")(parsed.runs, parsed.out)
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(import_by_name("reports.build.render_terminal")(parsed.runs))
    print(f"page: {result.index}")
    return DONE


def _compare(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.compare import CONDITIONAL, compare_runs, find_run

    a, b = (find_run(run, parsed.runs) for run in (parsed.a, parsed.b))
    found = compare_runs(a, b, parsed.metric, parsed.margin)
    print(f"{found.answer}\n{CONDITIONAL}\n\n{found.table()}")
    return DONE


def _gate(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from bench.gate import judge_disk, promote

    if {"-m", "--multirun"} & set(overrides):
        raise InputError("the gate does not sweep: name the runs as methods=[a,b] seeds=[0,1]")
    if not parsed.promote:
        if parsed.out or parsed.accept:
            raise InputError("--out and --accept belong to --promote")
        verdict = judge_disk(parsed.reference, overrides)
        print(verdict.table(parsed.all))
        return DONE if verdict.passed else GATE_FAILED
    if parsed.reference:
        raise InputError("--promote takes --out FILE and no --reference")
    done = promote(parsed.out, overrides, parsed.accept)
    if done.verdict is not None and not done.verdict.passed:
        print(done.verdict.table(parsed.all))
    for reason in done.refused:
        print(f"refused: {reason}", file=sys.stderr)
    if not done.refused:
        print(f"reference written to {done.path}; commit it")
    return GATE_FAILED if done.refused else DONE


def _doctor(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.doctor import doctor_report

    for check in doctor_report(parsed.runs):
        print(f"{'ok     ' if check.ok else 'missing'} {check.name}: {check.detail}")
        if not check.ok and check.remedy:
            print(f"        {check.remedy}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
