"""Run folders of the documented layout with made-up numbers, for tests of the reports."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.metrics import METRICS
from bench.metrics.facts import facts_of
from bench.metrics.stability import PAPER_METRICS, STRICT_METRICS
from bench.record import SCORE_COLUMNS, RunRecord, Score
from reports.frame import read_frame
from reports.table import Table
from reports.tables import build_tables
from reports.writers import to_markdown

NO_LPIPS = "the weights of LPIPS are not here"
OVER_DRAWS = {"LPIPS": (0.02, 0.005), "PSNR": (27.0, 2.0), "SSIM": (0.97, 0.01), "MS-SSIM": (0.985, 0.005)}


FACTS = {name: facts_of(name) for name in (*METRICS, *PAPER_METRICS, *STRICT_METRICS)}


def score_rows(values: list[tuple[Any, ...]], convention: str = "strict") -> pd.DataFrame:
    """Rows of SCORE_COLUMNS from (case, group, label, draw, metric, value)."""
    rows = [(case, group, label, draw, metric, convention, v) for case, group, label, draw, metric, v in values]
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def write_run(
    runs_dir: Path,
    method: str = "sdseg",
    dataset: str = "phantom/polyp",
    seed: int = 0,
    scores: pd.DataFrame | None = None,
    run_scores: dict[str, float] | None = None,
    **record: Any,
) -> Path:
    """One run folder; `record` overrides fields of the RunRecord."""
    digest = hashlib.sha256(repr((method, dataset, seed, sorted(record.items()))).encode()).hexdigest()
    folder = runs_dir / dataset.replace("/", "-") / method / f"seed{seed}-{digest[:8]}"
    folder.mkdir(parents=True)
    fields: dict[str, Any] = {
        "method": method,
        "dataset": dataset,
        "seed": seed,
        "hash": digest,
        "profile": "smoke",
        "protocol": "strict",
        "config": {"method": {"name": method, "options": {"steps": 1}}, "seed": seed},
        "labels": ["lesion"],
        "dims": 2,
        "draws": 5,
        "n_cases": {"train": 64, "val": 16, "test": 40},
        "data": {"data": "d4" * 32, "split": "5b" * 32},
        "metrics": FACTS,
        "environment": {
            "git": {"commit": "0123456789abcdef", "dirty": False},
            "device": {"type": "cpu", "name": "Example CPU"},
            "threads": 1,
            "python": "3.11.7",
            "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
        },
    }
    fields["scores"] = [Score(metric=name, value=value) for name, value in (run_scores or {}).items()]
    run = RunRecord(**{**fields, **record})
    (folder / "record.json").write_text(run.model_dump_json(indent=1))
    (folder / "revisions.json").write_text('["0123456789abcdef"]')
    if scores is not None:
        scores.to_parquet(folder / "scores.parquet")
    return folder


def made_up_scores(quality: float, n: int = 40, draws: int = 5, seed: int = 0, labels: int = 1) -> pd.DataFrame:
    """Plausible scores of n cases, the last one undefined (both masks empty)."""
    rng = np.random.default_rng(seed)
    values: list[tuple[Any, ...]] = []
    for index in range(n):
        case, group = f"case-{index:03d}", f"patient-{index:03d}"
        base = np.clip(rng.beta(12 * quality, 12 * (1 - quality) + 0.4), 0, 1)
        empty = index == n - 1
        for number in range(labels):
            label = f"label{number}" if labels > 1 else "lesion"
            for draw in range(draws):
                dice = np.nan if empty else float(np.clip(base + rng.normal(0, 0.01), 0, 1))
                values.append((case, group, label, draw, "Dice", dice))
                values.append((case, group, label, draw, "IoU", dice / (2 - dice)))
            pairs = np.nan if empty else float(np.clip(1 - abs(rng.normal(0, 0.03)), 0, 1))
            values.append((case, group, label, -1, "Dice/pairs", pairs))
        values.append((case, group, "", -1, "flip_rate", abs(float(rng.normal(0.004, 0.002)))))
        for name, (mean, sd) in OVER_DRAWS.items():
            for part in ("seg", "score"):
                infinite = name == "PSNR" and part == "seg" and (empty or index % 13 == 5)
                value = np.inf if infinite else min(rng.normal(mean, sd), 1.0 if "SSIM" in name else np.inf)
                values.append((case, group, "", -1, f"{name}/{part}", value))
    return score_rows(values)


def write_picture(folder: Path, rank: int, case: str, dice: float, seed: int = 0, labels: int = 1) -> None:
    """One gallery file: a disc to find, and draws that are off by some pixels."""
    rng = np.random.default_rng(seed)
    size, draws = 64, 5
    y, x = np.mgrid[:size, :size]

    def disc(cy: float, cx: float, radius: float) -> np.ndarray:
        return (y - cy) ** 2 + (x - cx) ** 2 < radius**2

    centres = rng.uniform(18, 46, (labels, 2))
    reference = np.stack([disc(cy, cx, 12) for cy, cx in centres])
    if np.isnan(dice):
        reference[:] = False
    shift = (1 - (0.9 if np.isnan(dice) else dice)) * 16
    masks = np.stack(
        [
            np.stack([disc(cy + shift + rng.normal(), cx + rng.normal(), 11 + rng.normal()) for cy, cx in centres])
            for _ in range(draws)
        ]
    )
    shade = 120 + 60 * np.sin(x / 9.0 + seed) * np.cos(y / 13.0) + rng.normal(0, 6, (size, size))
    image = np.stack([shade + 40 * reference.any(axis=0), shade * 0.7, shade * 0.6], axis=-1)
    (folder / "gallery").mkdir(exist_ok=True)
    np.savez_compressed(
        folder / "gallery" / f"{rank:02d}-{case}.npz",
        image=np.clip(image, 0, 255).astype(np.uint8),
        reference=reference,
        masks=masks,
        score=masks.mean(axis=0).astype(np.float16),
        dice=np.float64(dice),
        slice=np.int64(-1),
        case=case,
        labels=np.array([f"label{i}" if labels > 1 else "lesion" for i in range(labels)]),
    )


def write_traces(folder: Path, labels: int = 1, size: int = 32, cases: int = 2) -> None:
    """What a training kept at three moments: maps of one half until the last, whose maps are the masks."""
    y, x = np.mgrid[:size, :size]
    discs = [(y - 8 - 2 * i) ** 2 + (x - 16) ** 2 < (5 + i % labels) ** 2 for i in range(cases * labels)]
    mask = np.stack(discs).reshape(cases, labels, size, size)
    rebuilt, rng = mask.copy(), np.random.default_rng(0)
    rebuilt[..., :7, :] = False
    (folder / "model" / "traces").mkdir(parents=True)
    for step in (0, 10, 100):
        maps = np.repeat(mask[:, None], 3, axis=1) if step == 100 else np.full((cases, 3, *mask.shape[1:]), 0.5)
        np.savez_compressed(
            folder / "model" / "traces" / f"step-{step:06d}.npz",
            case=np.array([f"val-{index}" for index in range(cases)]),
            image=rng.integers(0, 256, (cases, 3, size, size), np.uint8),
            mask=mask,
            mask_latent=rng.normal(size=(cases, labels, 4, size // 8, size // 8)).astype(np.float16),
            reconstruction=rebuilt,
            image_latent=rng.normal(size=(cases, 4, size // 8, size // 8)).astype(np.float16),
            reverse=maps.astype(np.float16),
            reverse_t=np.array([999, 666, 333]),
        )


def write_draws(folder: Path, cases: list[str], draws: int = 3, labels: int = 1) -> None:
    """Stored predictions: a disc that every draw places a little elsewhere."""
    y, x = np.mgrid[:32, :32]
    for draw in range(draws):
        (folder / "predictions" / f"draw-{draw:03d}").mkdir(parents=True)
        for index, case in enumerate(cases):
            disc = (y - 16 - draw) ** 2 + (x - 16) ** 2 < (4 + index % 5) ** 2
            score = np.repeat(disc[None], labels, axis=0)
            path = folder / "predictions" / f"draw-{draw:03d}" / f"{case}.npz"
            np.savez_compressed(path, score=score.astype(np.float16), mask=np.packbits(score), shape=score.shape)


def write_example(runs_dir: Path, pictures: int = 4, cases: int = 40) -> list[Path]:
    """Seven runs: three methods on a built-in data set (one with two seeds), three on twelve BTCV volumes."""
    cost = {"samples_per_s": 21.5, "latency_ms_p50": 46.2, "latency_ms_p95": 51.0, "peak_rss_mib": 612.0}
    cost |= {"parameters_m": 3.21, "gflop_per_sample": 1.84, "nfe": 1, "steps": 1, "samples": 1, "slices_per_call": 1}
    cost |= {"train_s_per_step": 0.11, "train_hours": 0.025, "train_peak_rss_mib": 1433.0}
    folders = []
    cells = [("sdseg", 0.86, 0, 1.0), ("sdseg", 0.85, 1, 1.1), ("sdseg_z0", 0.88, 0, 1.0), ("unet", 0.87, 0, 0.4)]
    for method, quality, seed, factor in cells:
        values = {key: value * factor if "ms" in key else value for key, value in cost.items()}
        if method == "unet":
            del values["gflop_per_sample"]
        scores = made_up_scores(quality, n=cases, seed=seed + len(method))
        if method != "sdseg_z0":
            lpips = scores["metric"].str.startswith("LPIPS")
            scores = scores.assign(value=scores["value"].mask(lpips), reason=np.where(lpips, NO_LPIPS, ""))
        folder = write_run(runs_dir, method, seed=seed, scores=scores, run_scores=values)
        for rank in range(pictures):
            dice = [0.31, 0.62, 0.80, float("nan")][rank % 4]
            write_picture(folder, rank, f"case-{rank:03d}", dice, seed=rank)
        folders.append(folder)
    for method, quality in (("sdseg", 0.9), ("medsegdiff_v2", 0.84), ("diff_unet", 0.89)):
        scores = made_up_scores(quality, n=12, seed=len(method), labels=3)
        values = {**cost, "steps": 10, "nfe": 10, "latency_ms_p50": 900.0 * quality, "samples_per_s": 1.1 / quality}
        if method == "medsegdiff_v2":
            values |= {"steps": 50, "samples": 25, "nfe": 1250}
        folder = write_run(
            runs_dir,
            method,
            "btcv",
            scores=scores,
            run_scores=values,
            labels=["spleen", "liver", "aorta"],
            dims=3,
            n_cases={"train": 18, "val": 0, "test": 12},
            fidelity="approximation" if method == "medsegdiff_v2" else "reimplemented",
        )
        for rank in range(pictures):
            write_picture(folder, rank, f"case-{rank:03d}", 0.6 + 0.1 * rank, seed=rank, labels=3)
        folders.append(folder)
    return folders


def rows_of(table: Table, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in table.rows if all(row.get(key) == value for key, value in wanted.items())]


def dice_rows(values: dict[str, float]) -> pd.DataFrame:
    return score_rows([(case, case, "lesion", 0, "Dice", value) for case, value in values.items()])


def method_config(name: str, steps: int = 1, sweep: bool = False, **options: Any) -> dict[str, Any]:
    """The configuration of an SDSeg run, its options those of the paper but for the given ones."""
    paper = {"conditioning": "concat", "vision_encoder": "trainable", "latent_weight": 1.0, "prediction": "eps"}
    method = {"name": name, "options": {**paper, **options}, "inference": {"steps": steps}}
    return {"method": {**method, **({"sweep": "steps"} if sweep else {})}}


ABLATION = {
    "ablation_cross_attention": {"conditioning": "cross_attention", "vision_encoder": "frozen", "latent_weight": 0.0},
    "ablation_concat": {"vision_encoder": "frozen", "latent_weight": 0.0},
    "ablation_trainable_encoder": {"latent_weight": 0.0},
    "sdseg": {},
}


def write_ablation(runs_dir: Path, qualities: list[float], cases: int = 16, **record: Any) -> None:
    """The paper's four rows with the given means, every case a little off in the same way."""
    for (method, options), quality in zip(ABLATION.items(), qualities, strict=True):
        scores = made_up_scores(quality, cases)
        write_run(runs_dir, method, scores=scores, config=method_config(method, **options), **record)


def write_sweep(runs_dir: Path, dataset: str = "phantom/polyp", cases: int = 16) -> None:
    """Four numbers of steps of a training with and of one without the latent loss."""
    for base, weight, qualities in (("sdseg", 1.0, (85, 86, 87, 86)), ("no_latent", 0.0, (55, 70, 80, 83))):
        for steps, quality in zip((1, 2, 10, 50), qualities, strict=True):
            name = f"{base}.steps{steps}"
            config = method_config(name, steps, sweep=True, latent_weight=weight)
            scores = made_up_scores(quality / 100, cases, draws=1)
            write_run(runs_dir, name, dataset, scores=scores[scores["draw"] >= 0], config=config, draws=1)


SNAPSHOT = Path(__file__).parent / "data" / "report.md"


def write_whole_example(runs_dir: Path) -> None:
    """What the snapshot of the report shows."""
    write_example(runs_dir, pictures=2, cases=16)
    write_ablation(runs_dir, [0.3, 0.6, 0.8, 0.85], dataset="phantom/ablation")
    write_sweep(runs_dir, "phantom/ablation")


def snapshot(runs_dir: Path) -> str:
    """Every table as its page shows it: numbers, marks of the best, notes."""
    return "\n".join(to_markdown(table) for table in build_tables(read_frame(runs_dir)))


if __name__ == "__main__":  # python -m tests.report_fixtures, after a change that was meant; read the difference
    with tempfile.TemporaryDirectory() as folder:
        write_whole_example(Path(folder))
        SNAPSHOT.write_text(snapshot(Path(folder)), encoding="utf-8")
