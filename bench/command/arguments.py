"""What the `sdseg` command takes: its verbs and their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from bench.command.examples import epilog
from bench.errors import InputError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see sdseg {self.prog.removeprefix('sdseg').strip()} --help".replace("  ", " "))


_SEARCH = "hydra.searchpath=[DIR] names the configuration of methods of your own"
_AUDITED = "with a NAME, KEY=VALUE overrides say more of the data set: dataset.root=DIR dataset.split=NAME"
LISTED = ("methods", "datasets", "profiles", "metrics", "protocols", "studies")
_NARROWED = (
    "parts=[..] methods=[..] datasets=[..] seeds=[..] data_dir=DIR narrow it; other KEY=VALUE hold for each cell"
)
# How `study` calls Hydra's launchers.
LAUNCHERS = {"joblib": "joblib", "ray": "ray", "submitit": "submitit_slurm", "submitit_local": "submitit_local"}
SWEEP = ("-m", "--multirun")
STEPS: dict[str, tuple[tuple[str, ...], str]] = {
    "run": (
        ("fit", "predict", "score"),
        "fit, predict and score every selected (method, dataset, seed); resumes",
    ),
    "fit": (("fit",), "train only"),
    "predict": (("predict",), "predict the test split with fitted methods"),
    "score": (("score",), "score stored predictions"),
    "measure": ((), "speed, memory and arithmetic of scored runs, into their records"),
}


def is_sweep(overrides: list[str]) -> bool:
    """Whether a sweep was asked for."""
    return not set(SWEEP).isdisjoint(overrides)


def build_parser(functions: Mapping[str, Callable[[argparse.Namespace, list[str]], int]]) -> argparse.ArgumentParser:
    """The parser of all verbs; a parsed one's `function` is that of its name. Raises InputError for bad usage."""
    parser = _Parser(prog="sdseg", description="Benchmark of diffusion-based medical image segmentation.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(name: str, text: str, more: str = "") -> argparse.ArgumentParser:
        raw = argparse.RawDescriptionHelpFormatter
        verb = verbs.add_parser(name, help=text, description=text, epilog=epilog(name, more), formatter_class=raw)
        verb.set_defaults(function=functions[name])
        return verb

    for name, (steps, text) in STEPS.items():
        redo = "make this step and those after it again, whatever is on disk"
        verb = add(name, text, "-m sweeps over comma-separated values")
        verb.set_defaults(redo=None, workers=1)
        if steps:
            verb.add_argument("--redo", choices=steps, help=redo)
        if "score" in steps:
            _add_workers(verb)
    _add_study(add("study", "a whole plan of runs, then its report: sdseg study sdseg_paper is the paper", _NARROWED))
    segment = add("segment", "masks for a folder of images or volumes, with a trained run", _SEARCH)
    segment.add_argument("images", type=Path, metavar="IMAGES", help="folder or single file")
    segment.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder runs/.../seed*-*")
    segment.add_argument("--out", type=Path, required=True, metavar="DIR")
    _add_trust(segment)
    _add_scoring(add("score-folder", "score anybody's predictions against a folder of references"))
    weights = add("import-weights", "official .ckpt, CompVis .ckpt or diffusers folder to safetensors")
    weights.add_argument("src", type=Path, metavar="SRC", help="checkpoint file or folder")
    weights.add_argument("--out", type=Path, required=True, metavar="DIR")
    export = add("export", "a trained SDSeg run as an ONNX file, checked with onnxruntime", _SEARCH)
    export.add_argument("run", type=Path, metavar="RUN", help="run folder runs/.../seed*-*")
    export.add_argument("--out", type=Path, required=True, metavar="FILE.onnx")
    _add_trust(export)
    _add_report(add("report", "tables, figures and the page from the records"))
    verify = add("verify", "does a report say what its runs say? 1 where a number or a file is another")
    verify.add_argument("report", type=Path, metavar="REPORT", help="folder that sdseg report wrote")
    every = "score every stored prediction again, not a sample of every run"
    verify.add_argument("--predictions", action="store_true", help=every)
    compare = add("compare", "are two runs different? by how much?")
    compare.add_argument("a", metavar="RUN_A", help="run folder, method with one run, or DIR of score-folder")
    compare.add_argument("b", metavar="RUN_B")
    compare.add_argument("--metric", default="Dice")
    compare.add_argument("--margin", type=float, default=0.01, help="how much worse still counts as not inferior")
    compare.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    chosen = "overrides choose the runs, or RUN folders do (DIR of score-folder too); gate.memory=0.1 allows"
    gate = add("gate", "judge runs against a committed reference or another revision, or make a reference", chosen)
    gate.add_argument("--against", metavar="REV", help="make both here and time them in turn, such as HEAD~1")
    gate.add_argument("--reference", type=Path, metavar="FILE", help="default: bench/references/PROFILE-DEVICE.json")
    gate.add_argument("--promote", action="store_true", help="write the runs as the reference")
    gate.add_argument("--out", type=Path, metavar="FILE", help="where --promote writes")
    gate.add_argument("--accept", action="store_true", help="promote runs that fail against the file they replace")
    gate.add_argument("--all", action="store_true", help="show every judgement")
    gate.add_argument("--markdown", type=Path, metavar="FILE", help="write the verdict as a pull-request comment")
    what = add("list", "what there is to choose from, in a line each, and where it comes from", _SEARCH)
    what.add_argument("what", choices=LISTED, metavar="WHAT", help=", ".join(LISTED))
    check = add("check-method", "hold a method to its contract on tiny data, in seconds", _SEARCH)
    check.add_argument("name", metavar="NAME", help="a method, see sdseg list methods")
    _add_prepare(add("prepare", "a raw download of one of the paper's data sets into cases that any method trains on"))
    _add_audit(add("audit", "what makes numbers on a data set untrustworthy: leaks, bad masks, wrong counts", _AUDITED))
    doctor = add("doctor", "what this machine has, what is missing, how to get it")
    doctor.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    return parser


def _add_trust(verb: argparse.ArgumentParser) -> None:
    trusted = "run the code that the run's config.yaml names, whatever it is; without, only what is installed"
    verb.add_argument("--trust", action="store_true", help=trusted)


def _add_workers(verb: argparse.ArgumentParser) -> None:
    beside = "processes that score cases beside one another, each with one in memory; the scores stay the same"
    verb.add_argument("--workers", type=int, default=1, metavar="N", help=f"{beside}; default: 1")


def _add_study(study: argparse.ArgumentParser) -> None:
    study.add_argument("name", metavar="NAME", help="see sdseg list studies")
    study.add_argument("--plan", action="store_true", help="show its cells, what is done, and what the rest will take")
    where = "who does the cells: joblib (processes here), ray, submitit (SLURM), submitit_local; default: this process"
    study.add_argument("--launcher", choices=tuple(LAUNCHERS), metavar="NAME", help=where)


def _add_report(report: argparse.ArgumentParser) -> None:
    report.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    report.add_argument("--out", type=Path, metavar="DIR", help="default: RUNS/report")
    more = "numbers of other papers: value,dataset,method,metric and more (docs/reports.md)"
    report.add_argument("--open", action="store_true", help="open the page in a browser")
    again = "make it again when a run has changed, looked for every SECONDS (2); Ctrl-C ends"
    report.add_argument("--watch", type=float, nargs="?", const=2.0, metavar="SECONDS", help=again)
    report.add_argument("--published", type=Path, action="append", default=[], metavar="FILE.csv", help=more)
    other = "report folder of before: what changed since, in the terminal and in against.md"
    report.add_argument("--against", type=Path, metavar="OTHER", help=other)


def _add_prepare(prepare: argparse.ArgumentParser) -> None:
    prepare.add_argument("name", metavar="NAME", help="cvc_clinicdb, kvasir_seg, refuge2, btcv, sts3d")
    raw = "folder, zip or tar of the download, or mini: a small one of the same layout, drawn; default: download it"
    prepare.add_argument("--source", type=Path, metavar="RAW", help=raw)
    prepare.add_argument("--out", type=Path, required=True, metavar="DIR")
    how = "native: original resolution and spacing; paper: what the released code of SDSeg does"
    prepare.add_argument("--preprocessing", default="native", metavar="HOW", help=how)
    option = "an option of paper: crop of refuge2, ct_window of btcv (released or test)"
    prepare.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=option)
    prepare.add_argument("--partial", action="store_true", help="allow fewer cases than were published")


def _add_audit(audit: argparse.ArgumentParser) -> None:
    what = "a prepared folder, a folder with images/ and masks/, or a data set's name"
    audit.add_argument("what", metavar="DATASET|FOLDER", help=what)
    audit.add_argument("--manifest", type=Path, metavar="FILE", help="CSV: case, split[, group]; default: as in a run")
    audit.add_argument("--split", metavar="NAME", help="one manifest of a prepared folder; default: all of them")
    audit.add_argument("--out", type=Path, metavar="DIR", help="default: runs/audit/NAME")


def _add_scoring(score: argparse.ArgumentParser) -> None:
    score.add_argument("pred", type=Path, metavar="PRED")
    score.add_argument("ref", type=Path, metavar="REF")
    score.add_argument("--out", type=Path, required=True, metavar="DIR")
    score.add_argument("--protocol", default="strict")
    soft = "soft scores in [0, 1] behind the masks, in files of the same names: calibration, stability of scores"
    score.add_argument("--scores", type=Path, metavar="DIR", help=soft)
    grouped = score.add_mutually_exclusive_group()
    table = "CSV with the columns case and group: cases of one patient, which intervals keep together"
    grouped.add_argument("--groups", type=Path, metavar="FILE", help=table)
    pattern = "expression whose first group in brackets, or whole match in a file's stem, names the case's group"
    grouped.add_argument("--group-regex", metavar="REGEX", help=pattern)
    which = "comma-separated; NSD@3 is NSD at a tolerance of 3 mm (px); default: all that there is input for"
    score.add_argument("--metrics", type=_names, metavar="NAMES", help=which)
    sized = "in-plane size in pixels of protocols that score at their network's (sdseg, medsegdiff); default: 256"
    score.add_argument("--size", type=int, default=256, metavar="N", help=sized)
    score.add_argument("--pred-suffix", default="", metavar="TEXT", help="ending of stems in PRED, such as _mask")
    score.add_argument("--ref-suffix", default="", metavar="TEXT", help="the same in REF, such as _segmentation")
    score.add_argument("--subset", action="store_true", help="leave out references that have no prediction")
    names = score.add_argument_group("what report, compare and gate call these masks")
    names.add_argument("--method", metavar="NAME", help="default: the name of DIR")
    names.add_argument("--dataset", metavar="NAME", help="default: the name of REF and of its folder")
    names.add_argument("--seed", type=int, default=0, metavar="N", help="masks of one method's trainings: one row")
    _add_masks(score)
    other = "bring predictions on another grid or of another size to their references' (masks by nearest neighbour)"
    score.add_argument("--resample", action="store_true", help=other)
    _add_workers(score)
    every = "also score the same masks under every protocol: conventions.parquet"
    score.add_argument("--conventions", action="store_true", help=every)


def _add_masks(score: argparse.ArgumentParser) -> None:
    masks = score.add_argument_group("how masks are read", "decided from all files of a folder where it is not said")
    kinds = ("auto", "binary", "labels", "onehot", "index")
    each = "each value is a label, channels are (channel 0 the background), or palette images go by their index"
    masks.add_argument("--mask", choices=kinds, default="auto", help=f"all but the background is one label, or {each}")
    named = "what values mean: liver=1,tumour=2+3 or lesion=#ff0000; others count as background"
    masks.add_argument("--labels", metavar="NAME=VALUE,...", help=named)
    masks.add_argument("--pred-labels", metavar="NAME=VALUE,...", help="the same of PRED, where its values differ")
    masks.add_argument("--ignore", metavar="VALUE", help="elements of REF with this value count for nothing")
    masks.add_argument("--background", default="0", metavar="VALUE", help="the value that is no label; default: 0")


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise argparse.ArgumentTypeError("no name in it; give one or more, Dice,HD95 say")
    return names
