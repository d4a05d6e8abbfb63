"""Accuracy per cell: Dice and IoU of every test case against its reference (paper Tables 2 and 3)."""

from __future__ import annotations

from bench.record import Score, read_scores
from bench.runner import Run


def test_accuracy(run: Run, benchmark, publish) -> None:
    """Every test case has a score for every metric, draw and label; the timed call reads and scores one case."""
    from bench.scoring import score_case

    dataset = run.dataset
    case = dataset.case(dataset.case_ids("test")[0])
    score, mask = run.folder.read_prediction(0, case.id)
    benchmark.pedantic(
        score_case,
        args=(case, dataset.spec.labels, score[None], mask[None], run.cell.config["metrics"], None),
        rounds=5,
    )
    frame = read_scores(run.folder.scores_path)
    accuracy = frame[frame["draw"] >= 0]
    expected = len(dataset.case_ids("test")) * len(dataset.spec.labels) * run.cell.config["draws"]
    scores = []
    for metric in run.cell.config["metrics"]:
        values = accuracy.loc[accuracy["metric"] == metric, "value"]
        assert len(values) == expected, f"{metric}: {len(values)} rows, expected {expected}"
        assert values.notna().any(), f"{metric}: undefined on every case"
        scores.append(Score(metric=metric, value=values.mean(), better="higher"))
        scores.append(Score(metric=f"{metric}_undefined", value=int(values.isna().sum()), better="lower"))
    publish(scores, into_record=False)
