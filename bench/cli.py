"""The `sdseg` command: verbs, exit codes, one-line errors. A verb imports what it needs: Hydra and torch are slow."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from bench import progress
from bench.command.arguments import STEPS, SWEEP, build_parser, is_sweep
from bench.command.terminal import complain, prepare_output, say
from bench.errors import BAD_INPUT, DONE, GATE_FAILED, RUN_FAILED, InputError, one_line
from bench.files import sweep_parts

_PAIRING = ("pred_suffix", "ref_suffix", "subset")
_NAMING = ("method", "dataset", "seed", "workers")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 done, 1 a gate failed, 2 bad input, 3 a run failed)."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    warnings.filterwarnings("ignore")
    prepare_output()
    try:
        parsed, rest = build_parser(VERBS).parse_known_args(arguments)
        takes_overrides = parsed.verb in (*STEPS, "study", "gate", "check-method", "audit")
        if parsed.verb in ("segment", "export", "list"):
            takes_overrides = all(x.startswith("hydra.searchpath=") for x in rest)
        stray = [x for x in rest if not takes_overrides or (x.startswith("-") and x not in SWEEP)]
        if stray:
            raise InputError(f"unknown argument {stray[0]!r}; see sdseg {parsed.verb} --help")
        _listen()
        return parsed.function(parsed, rest)
    except KeyboardInterrupt:
        _silence()
        complain("stopped; the same command continues where it was")
        return 130
    except Exception as error:
        if os.environ.get("SDSEG_DEBUG") == "1":
            raise
        _silence()
        complain(f"error: {one_line(error)}")
        return BAD_INPUT if isinstance(error, InputError) else RUN_FAILED


def _listen() -> None:
    terminal = sys.stderr.isatty()
    progress.listen(progress.BarHandler() if terminal else progress.LineHandler(complain))


def _silence() -> None:
    progress.listen(logging.NullHandler())


def _steps(parsed: argparse.Namespace, overrides: list[str]) -> int:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and parsed.verb != "fit":
        raise InputError(f"several processes train only: torchrun -m bench.cli fit, then sdseg {parsed.verb} alone")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and parsed.redo:
        raise InputError("--redo is for one process: several could delete what another has begun")
    if is_sweep(overrides):
        if parsed.workers > 1:
            raise InputError("--workers is for cells one after another; a sweep has processes by hydra/launcher=joblib")
        from bench.command.sweeps import sweep

        return sweep(parsed.verb, overrides, parsed.redo)
    from bench.command.steps import run_cells

    return run_cells(parsed.verb, overrides, redo=parsed.redo, workers=parsed.workers)


def _segment(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from bench.command.segment import segment_folder

    sweep_parts(parsed.out)
    written = segment_folder(parsed.images, parsed.model, parsed.out, parsed.trust, overrides)
    say(f"{len(written)} masks written to {parsed.out}")
    return DONE


def _score_folder(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.datasets.masks.declared import parse_pairs
    from bench.importing import import_by_name
    from bench.results.locking import locked
    from bench.scoring.folder import score_folder
    from bench.scoring.folder_summary import summary_text

    names = ("protocol", "metrics", "scores", "groups", "group_regex", "size", "conventions", "resample", *_PAIRING)
    options = {name: getattr(parsed, name) for name in (*names, *_NAMING, "mask", "ignore", "background")}
    for name in ("labels", "pred_labels"):
        options[name] = parse_pairs(given) if (given := getattr(parsed, name)) else None
    with locked(parsed.out):
        summary = score_folder(parsed.pred, parsed.ref, parsed.out, **options)
    say(summary_text(summary))
    if parsed.conventions:
        say("\n" + import_by_name("reports.tables.conventions.text_of_run")(parsed.out))
    say(f"\nscores written to {parsed.out}")
    return DONE


def _import_weights(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.importing import import_by_name
    from bench.results.outputs import replaced_folder

    with replaced_folder(parsed.out, parsed.src) as folder:
        try:
            what = import_by_name("sdseg.weights.importing.import_weights")(parsed.src, folder)
        except ValueError as error:
            raise InputError(str(error)) from error
    say(f"{what}; written to {parsed.out}")
    return DONE


def _export(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from bench.command.export import export_run

    sweep_parts(parsed.out.parent)
    export = export_run(parsed.run, parsed.out, parsed.trust, overrides)
    difference = f"scores differ by at most {export.score_difference:.1e}"
    say(f"{parsed.out}: {difference}, {export.flipped} of {export.pixels} mask pixels fell on the other side")
    return DONE


def _report(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from bench.command.report import report

    return report(parsed, overrides)


def _verify(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.command.verify import verify

    differences, remarks, counted = verify(parsed.report, parsed.predictions)
    for line in remarks:
        complain(f"warning: {line}")
    for line in differences:
        say(line)
    say(f"{counted}: {len(differences)} differences" if differences else f"{counted}: all as printed")
    return GATE_FAILED if differences else DONE


def _compare(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.compare import compare_runs, find_run

    a, b = (find_run(run, parsed.runs) for run in (parsed.a, parsed.b))
    comparison = compare_runs(a, b, parsed.metric, parsed.margin)
    say(f"{comparison.answer}\n{comparison.condition}\n\n{comparison.table()}")
    return DONE


def _gate(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from bench.compare import find_run
    from bench.gate import against_revision, judge_disk, promote, write_comment

    if is_sweep(overrides):
        raise InputError("the gate does not sweep: name the runs as methods=[a,b] seeds=[0,1]")
    given = [word for word in overrides if "=" not in word or (Path(word) / "record.json").is_file()]
    overrides = [word for word in overrides if word not in given]
    folders = [find_run(word, Path("runs")) for word in given]
    if not parsed.promote:
        if parsed.out or parsed.accept:
            raise InputError("--out and --accept belong to --promote")
        if parsed.against and (parsed.reference or folders):
            raise InputError("--against makes the runs that overrides choose; leave --reference and run folders out")
        verdict = (
            against_revision(parsed.against, overrides)
            if parsed.against
            else judge_disk(parsed.reference, overrides, folders)
        )
        say(verdict.table(parsed.all))
        write_comment(verdict, parsed.markdown)
        return DONE if verdict.passed else GATE_FAILED
    if parsed.against or parsed.markdown:
        raise InputError("--promote makes a reference of the runs on disk; leave --against and --markdown out")
    if parsed.reference:
        raise InputError("--promote takes --out FILE and no --reference")
    path, verdict = promote(parsed.out, overrides, parsed.accept, folders)
    if verdict.passed:
        say(f"reference written to {path}; commit it")
        return DONE
    say(verdict.table(parsed.all))
    complain(f"refused: {path} is not written")
    return GATE_FAILED


def _study(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from bench.command.study import carry_out, show_plan

    if is_sweep(overrides):
        raise InputError("a study is a sweep by itself: leave -m out; its parts say set: [KEY=A,B]")
    if parsed.plan:
        say(show_plan(parsed.name, overrides))
        return DONE
    return carry_out(parsed.name, overrides, parsed.launcher)


def _list(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from tabulate import tabulate

    from bench.catalogue import entries

    rows = entries(parsed.what, overrides)
    say(tabulate(rows, ("name", "what it is", "from"), tablefmt="simple", maxcolwidths=[None, 90, None]))
    return DONE


def _check_method(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from bench.command.check_method import check_method

    outcomes = check_method(parsed.name, overrides)
    for rule, holds, says in outcomes:
        say(f"{'ok    ' if holds else 'BROKEN'} {rule}: {says}")
    broken = [rule for rule, holds, _ in outcomes if not holds]
    say(f"{parsed.name} breaks: {', '.join(broken)}" if broken else f"{parsed.name} holds its contract")
    return RUN_FAILED if broken else DONE


def _prepare(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.command.prepare import prepare_folder

    asked = (parsed.name, parsed.source, parsed.out, parsed.preprocessing, parsed.set, parsed.partial)
    say("\n".join(prepare_folder(*asked)))
    return DONE


def _audit(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from bench.command.audit import audit_data

    done, page = audit_data(parsed.what, overrides, parsed.manifest, parsed.split, parsed.out)
    say("\n".join([*done.lines(), f"page: {page}"]))
    return DONE if done.passed else GATE_FAILED


def _doctor(parsed: argparse.Namespace, _: list[str]) -> int:
    from bench.command.doctor import doctor_report

    for check in doctor_report(parsed.runs):
        say(f"{'ok     ' if check.ok else 'warning'} {check.name}: {check.detail}")
        if not check.ok and check.remedy:
            say(f"        {check.remedy}")
    return DONE


VERBS = {
    **dict.fromkeys(STEPS, _steps),
    "study": _study,
    "segment": _segment,
    "score-folder": _score_folder,
    "import-weights": _import_weights,
    "export": _export,
    "report": _report,
    "verify": _verify,
    "compare": _compare,
    "gate": _gate,
    "list": _list,
    "check-method": _check_method,
    "prepare": _prepare,
    "audit": _audit,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
