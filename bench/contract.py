"""The contract of a method, checked: what it has, what it answers, where its noise comes from, whose error it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
import torch

from bench import progress
from bench.device import stated
from bench.errors import InputError, RunError, frame_of, shortened
from bench.seeding import CaseGenerator
from bench.sizes import lacks_recipe
from bench.sources import method_files, outside
from bench.types import Prediction, Segmenter, TaskSpec

# The same image in another batch is added up in another order. Measured in float32: 5e-4; in half precision it is more,
# and much less than other noise.
ROUNDING = 5e-4
HALF_ROUNDING = 0.1
_BEYOND = 1e-5  # a mean of ones may be 1.0000001

Ask = Callable[[Segmenter, TaskSpec, torch.Tensor, Sequence[CaseGenerator]], Prediction]


class ContractError(RunError):
    """A method that answers what its contract does not allow; `rule` is the one it breaks, in a word."""

    def __init__(self, message: str, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


def check_segmenter(segmenter: Any) -> None:
    """Raise InputError naming what an object lacks of the contract `Segmenter`."""
    kind, see = type(segmenter).__name__, "see `Segmenter` in bench/types.py"
    for name in ("fit", "load", "predict"):
        if not callable(getattr(segmenter, name, None)):
            raise InputError(f"{kind} has no method {name}; {see}")
    for name, expected in {"dims": "2 or 3", "evaluations": "0 or more", "samples": "1 or more"}.items():
        value = getattr(segmenter, name, None)
        if not isinstance(value, int) or value < (name != "evaluations") or (name == "dims" and value not in (2, 3)):
            raise InputError(f"{kind}.{name} is {value!r}, expected {expected}; {see}")
    try:
        stated(segmenter, "cpu")
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{kind}.device is {segmenter.device!r}, expected a torch.device; {see}") from error
    if not isinstance(getattr(segmenter, "model", ""), torch.nn.Module | None):
        raise InputError(f"{kind}.model must be a torch module, or None where there is no network; {see}")


def answer(
    segmenter: Segmenter, task: TaskSpec, image: torch.Tensor, generators: Sequence[CaseGenerator]
) -> Prediction:
    """What a method answers to images (B, C, *S): score float32 and mask (B, L, *S) on the CPU.

    A method without a network answers at sizes of its own. Raises ContractError naming the case and what was given.
    """
    given = segmenter.predict(image, generators)
    score, mask = getattr(given, "score", None), getattr(given, "mask", None)
    case = generators[0].case_id
    if not isinstance(score, torch.Tensor) or not isinstance(mask, torch.Tensor):
        kinds = f"score {type(score).__name__}, mask {type(mask).__name__}" if score is not None else "no score"
        _refuse("type", case, f"predict returned a {type(given).__name__} ({kinds})", "a Prediction of two tensors")
    if mask.dtype != torch.bool:
        _refuse("type", case, f"the mask is {mask.dtype}", "torch.bool, the method's own decision (score > 0.5, say)")
    if not score.dtype.is_floating_point:
        _refuse("type", case, f"the score is {score.dtype}", "floating point in [0, 1]")
    size = image.shape[2:] if segmenter.model is not None else mask.shape[2:]
    wanted = (len(image), len(task.labels), *size)
    if not tuple(score.shape) == tuple(mask.shape) == wanted or mask.ndim != image.ndim:
        shapes = f"score {_shape(score.shape)} and mask {_shape(mask.shape)}"
        _refuse(
            "shape", case, f"{shapes} for images {_shape(image.shape)}", f"both {_shape(wanted)} (batch, labels, size)"
        )
    score, mask = score.detach().float().cpu(), mask.detach().cpu()
    for one, generator in zip(score, generators, strict=True):
        low, high = float(one.min()), float(one.max())  # NaN where there is one
        if not (low >= -_BEYOND and high <= 1 + _BEYOND):
            _refuse(
                "range", generator.case_id, f"the score runs from {low:.4g} to {high:.4g}", "finite values in [0, 1]"
            )
    return Prediction(score.clamp(0, 1), mask)


def _refuse(rule: str, case: str, given: str, expected: str) -> NoReturn:
    raise ContractError(f"case {case}: {given}, expected {expected}", rule)


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def answer_checked(
    segmenter: Segmenter, task: TaskSpec, image: torch.Tensor, generators: Sequence[CaseGenerator]
) -> Prediction:
    """`answer`, with the last image of the batch asked for again, alone: it must get the same answer.

    Noise that comes from anywhere but an image's own generator differs then. A second repetition, where the first one
    differs, tells such noise from the rounding of another batch.
    """
    together = answer(segmenter, task, image, generators)
    last = generators[-1]
    alone = answer(segmenter, task, image[-1:], [last.again()])
    apart = difference(together.score[-1], alone.score[0])
    if apart <= ROUNDING:
        return together
    case = f"case {last.case_id}"
    repeated = difference(alone.score, answer(segmenter, task, image[-1:], [last.again()]).score)
    if repeated > ROUNDING:
        raise ContractError(
            f"{case}: two predictions with generators of the same state differ by {repeated:.2g};"
            " all noise must come from the given generators, and layers such as dropout must be off (model.eval())",
            "determinism",
        )
    if apart > HALF_ROUNDING:
        raise ContractError(
            f"{case}: its score alone and in a batch of {len(image)} differ by {apart:.2g}; noise must come from"
            " the given generators, one per image, and no layer may mix the images of a batch (model.eval())",
            "batch",
        )
    progress.note(
        f"warning: {case}: its score alone and in a batch of {len(image)} differ by {apart:.2g}: half precision does"
        " that, and so does a layer that mixes the images of a batch; sdseg check-method tells them apart"
    )
    return together


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest absolute difference of two scores, 1 where their shapes differ."""
    # Stored predictions of other sizes are other predictions.
    return float((one - other).abs().max()) if one.shape == other.shape else 1.0


def plain_facts(facts: Mapping[str, Any] | None) -> dict[str, Any]:
    """What `fit` or `describe` returned as strict JSON: numbers of any kind, None for NaN, text for what is neither.

    A training is not lost for a fact that cannot be kept as it is.
    """
    return {str(key): _plain(value) for key, value in (facts or {}).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain_facts(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.numel() == 1):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


@contextmanager
def errors_of(section: Mapping[str, Any], verb: str, kind: str = "method") -> Iterator[None]:
    """Name the method of a configuration and the place in its own code where it fails.

    A ValueError of the project's methods speaks of bad input, as their contract says; of another's code it may be
    anything's.
    """
    try:
        yield
    except ContractError as error:
        raise ContractError(f"{kind} {section['name']}: {error}", error.rule) from error
    except (InputError, RunError):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and not outside(section):
            raise InputError(str(error).splitlines()[0]) from error
        raise RunError(f"{kind} {section['name']}: {verb}: {described(error, section)}") from error


def described(error: BaseException, section: Mapping[str, Any]) -> str:
    """An error in a method's or a data set's code: its type, its text, and the last line of that code it came from."""
    frame = frame_of(error, {str(path.resolve()) for path in method_files(section)})
    where = f" at {frame}" if frame else ""
    if lacks_recipe(error, section):
        where += "; its file has no recipe, say recipe: ${train}"
    return f"{type(error).__name__}: {shortened(str(error))}{where} (SDSEG_DEBUG=1 shows all)"
