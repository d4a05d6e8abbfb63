"""The `sdseg` command: verbs, exit codes, one-line errors. The only module that prints."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from bench import progress
from bench.arguments import STEPS, build_parser
from bench.config import CONF_DIR, expand, register_schema, sweep_jobs
from bench.errors import InputError, NotApplicableError, RunError
from bench.quoting import quote_overrides

DONE, GATE_FAILED, BAD_INPUT, RUN_FAILED = 0, 1, 2, 3
_PAIRING = ("pred_suffix", "ref_suffix", "subset")
_HEADLINE = ("Dice", "IoU", "HD95", "NSD")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 done, 1 a gate failed, 2 bad input, 3 a run failed)."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    warnings.filterwarnings("ignore")
    try:
        parsed, rest = build_parser(VERBS).parse_known_args(arguments)
        takes_overrides = parsed.verb in (*STEPS, "gate")
        if parsed.verb in ("segment", "export"):
            takes_overrides = all(x.startswith("hydra.searchpath=") for x in rest)
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


def _steps(parsed: argparse.Namespace, overrides: list[str]) -> int:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and parsed.verb != "fit":
        raise InputError(f"several processes train only: torchrun -m bench.cli fit, then sdseg {parsed.verb} alone")
    if {"-m", "--multirun"} & set(overrides):
        return _sweep(parsed.verb, overrides)
    return run_cells(parsed.verb, overrides)


def run_cells(verb: str, overrides: list[str]) -> int:
    """Do a verb for every cell; a run that fails does not keep the others from finishing."""
    from bench.runner import run_cell

    steps, code = STEPS[verb][0], DONE
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
    shown = [name for name in _HEADLINE if name in means] or list(means.index[:4])
    return "".join(f"  {name} {means[name]:.4f}" for name in shown)


def _sweep(verb: str, overrides: list[str]) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    plain = quote_overrides((o for o in overrides if o not in ("-m", "--multirun")), sweep=True)
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


def _segment(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from bench.segment import segment_folder

    written = segment_folder(parsed.images, parsed.model, parsed.out, parsed.trust, overrides)
    print(f"{len(written)} masks written to {parsed.out}")
    return DONE


def _score_folder(parsed: argparse.Namespace, _: list[str]) -> int:
    import pandas as pd

    from bench.folder_scores import score_folder
    from bench.folder_summary import conventions_text, summary_text
    from bench.locking import locked
    from bench.masks.declared import parse_pairs

    names = ("protocol", "metrics", "scores", "groups", "group_regex", "size", "conventions", "resample", *_PAIRING)
    options = {name: getattr(parsed, name) for name in (*names, "mask", "ignore", "background")}
    for name in ("labels", "pred_labels"):
        options[name] = parse_pairs(given) if (given := getattr(parsed, name)) else None
    with locked(parsed.out):
        summary = score_folder(parsed.pred, parsed.ref, parsed.out, **options)
    print(summary_text(summary))
    if parsed.conventions:
        print(f"\nthe same masks under every protocol\n{conventions_text(pd.read_csv(parsed.out / 'conventions.csv'))}")
    print(f"\nscores written to {parsed.out}")
    return DONE


def _import_weights(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.build import import_by_name
    from bench.outputs import replaced_folder

    with replaced_folder(parsed.out, parsed.src) as folder:
        try:
            what = import_by_name("sdseg.weights.importing.import_weights")(parsed.src, folder)
        except ValueError as error:
            raise InputError(str(error)) from error
    print(f"{what}; written to {parsed.out}")
    return DONE


def _export(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from bench.export import export_run

    found = export_run(parsed.run, parsed.out, parsed.trust, overrides)
    difference = f"scores differ by at most {found.score_difference:.1e}"
    print(f"{parsed.out}: {difference}, {found.flipped} of {found.pixels} mask pixels fell on the other side")
    return DONE


def _report(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.build import import_by_name
    from bench.outputs import OutputFolder

    if not parsed.runs.is_dir():
        raise InputError(f"{parsed.runs}: no such folder; give --runs DIR, or make runs with sdseg run")
    # The folder inside RUNS is the report's own; another one may hold other things.
    own = parsed.out is None or parsed.out.resolve() == (parsed.runs / "report").resolve()
    writer = {} if own else {"write": OutputFolder(parsed.out).put}
    result = import_by_name("reports.build.build_report")(parsed.runs, parsed.out, **writer)
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(result.text)
    print(f"page: {result.index}")
    return DONE


def _compare(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.compare import compare_runs, find_run

    a, b = (find_run(run, parsed.runs) for run in (parsed.a, parsed.b))
    found = compare_runs(a, b, parsed.metric, parsed.margin)
    print(f"{found.answer}\n{found.condition}\n\n{found.table()}")
    return DONE


def _gate(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from bench.gate import judge_disk, promote

    if {"-m", "--multirun"} & set(overrides):
        raise InputError("the gate does not sweep: name the runs as methods=[a,b] seeds=[0,1]")
    if not parsed.promote:
        if parsed.out or parsed.accept:
            raise InputError("--out and --accept belong to --promote")
        verdict = judge_disk(parsed.reference, overrides)
        if parsed.needs:
            print(verdict.needs())
            return DONE
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


VERBS = {
    **dict.fromkeys(STEPS, _steps),
    "segment": _segment,
    "score-folder": _score_folder,
    "import-weights": _import_weights,
    "export": _export,
    "report": _report,
    "compare": _compare,
    "gate": _gate,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
