"""MedSegDiff's networks and training losses beside the released code's values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from baselines.medsegdiff.config import MedSegDiffConfig
from baselines.medsegdiff.highway import Highway
from baselines.medsegdiff.loss import medsegdiff_loss
from baselines.medsegdiff.model import MedSegDiff
from baselines.medsegdiff.official import load_official, to_official
from tests.parity.medsegdiff import Golden, check, check_gradients, check_losses

golden = Golden()
LARGE = pytest.mark.full  # more of the same, so only on demand


@pytest.fixture(scope="module")
def fast() -> MedSegDiff:
    """V2 at the small size of the golden data; leave its weights alone."""
    return load_official(golden.state("v2_fast"), image_size=64)


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("version", "count"), [("v1", 130_527_814), ("v2", 129_400_450)])
def test_full_size_has_every_tensor_of_the_release(version: str, count: int) -> None:
    with torch.device("meta"):
        model = MedSegDiff(MedSegDiffConfig(version=version))
    assert parameters(model) == count
    named = golden.json(f"manifest_{version}_full")["tensors"]
    written = to_official(model)
    assert {name: list(tensor.shape) for name, tensor in written.items()} == {n: e["shape"] for n, e in named.items()}
    assert len(model.network.unet.state_dict()) == 450


def test_every_tensor_comes_back(fast: MedSegDiff) -> None:
    assert parameters(fast) == 28_621_186
    state, written = golden.state("v2_fast"), to_official(fast)
    assert set(written) == set(state)
    assert all(torch.equal(written[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("item", ["tmix", "tfrac", *(pytest.param(t, marks=LARGE) for t in ("t0", "t500", "t999"))])
@torch.no_grad()
def test_v2_network(fast: MedSegDiff, item: str) -> None:
    values, limits = golden.tensors("net_v2_fast"), golden.tolerance
    t = {"tmix": [0, 999], "tfrac": [960.4, 19.6]}.get(item) or [int(item[1:])] * 2
    net = fast.network(values["image"], values["x_t"], torch.tensor(t))
    check(f"v2_fast {item} eps", net.eps, values[f"{item}/eps"], limits["net_eps_v"]["strict"])
    check(f"v2_fast {item} v", net.v, values[f"{item}/v"], limits["net_eps_v"]["strict"])
    check("v2_fast cal", net.cal, values["cal"], limits["net_cal"]["strict"])


@pytest.mark.parametrize("variant", [pytest.param("plain", marks=LARGE), "amp"])
@torch.no_grad()
def test_v1_highway(variant: str) -> None:
    values, limits = golden.tensors("hwm_v1"), golden.tolerance
    highway = Highway(MedSegDiffConfig(version="v1")).eval()
    state = golden.state("v1_full", variant == "amp", prefix="hwm.")
    highway.load_state_dict({k.removeprefix("hwm."): v for k, v in state.items()})
    shapes = [(1, 128, 128, 128), (1, 128, 64, 64), (1, 256, 32, 32), (1, 256, 16, 16)]
    features = [golden.input(f"hs/{d}", *shape) for d, shape in enumerate(shapes)]
    found = highway(golden.image("image", 1, 3, 256, 256), features)
    check(f"hwm_v1 {variant} cal", found.cal[..., ::3, ::3], values[f"{variant}/cal"], limits["net_cal"]["strict"])
    added = torch.nn.functional.conv2d(found.bottleneck, *golden.bottleneck())
    check(f"hwm_v1 {variant} emb", added, values[f"{variant}/emb_bottleneck_random"], limits["hwm_v1_emb"])
    if variant == "amp":
        filtered = highway.ffparser[3](features[3])[:, :16]
        check("hwm_v1 ffparser3", filtered, values["ffparser3/out_amp"], limits["hwm_v1_emb"])


@pytest.fixture
def learner(fast: MedSegDiff) -> Iterator[MedSegDiff]:
    """The small V2 with the release's rule for masks and its state put back afterwards."""
    before = {name: tensor.clone() for name, tensor in fast.state_dict().items() if "instnorm" in name}
    config = fast.config
    fast.config = config.model_copy(update={"mask_binarise": "gt0"})
    yield fast
    fast.config = config
    fast.load_state_dict(before, strict=False)
    fast.zero_grad()
    fast.eval()


@pytest.mark.parametrize("mode", [pytest.param("eval", marks=LARGE), "train_nodropout"])
def test_losses_and_gradients_of_v2(learner: MedSegDiff, mode: str) -> None:
    values, tag = golden.tensors("losses"), f"v2_fast_{mode}"
    if mode != "eval":
        learner.train()
        for module in learner.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
                module.eval()
    image, noise = golden.image("loss64/image", 2, 3, 64, 64), golden.input("loss64/noise", 2, 1, 64, 64)

    def gradients() -> dict[str, torch.Tensor]:
        learner.zero_grad()
        losses = learner.errors(image, values["v2_fast/mask"], values["v2_fast/t"], noise)
        check_losses(golden, tag, losses)
        medsegdiff_loss(*losses).total.backward()
        return to_official(learner, {n: p.grad for n, p in learner.network.named_parameters() if p.grad is not None})

    by_name = {name: gradient.clone() for name, gradient in gradients().items()}
    check_gradients(golden, tag, learner)
    written = {name: tensor.clone() for name, tensor in to_official(learner).items()}
    limit, rounded = golden.tolerance["grad_norms"], dict[str, torch.Tensor]()
    for name, wanted in values.items():
        if name.startswith(f"{tag}/grad/"):
            key, most = name.removeprefix(f"{tag}/grad/"), limit["rel"] * float(wanted.abs().max()) + limit["abs"]
            if float((by_name[key] - wanted).abs().max()) > most:
                # The first convolutions lie behind many batch norms: how far two ways to convolve are apart on this
                # processor is what its rounding does to an element, and no element can be held to less.
                with torch.backends.mkldnn.flags(enabled=False):
                    rounded = rounded or gradients()
                most = max(most, 2 * float((by_name[key] - rounded[key]).abs().max()))
            check(name, by_name[key], wanted, most)
    buffers = {n.removeprefix(f"{tag}/buffers/"): x for n, x in values.items() if n.startswith(f"{tag}/buffers/")}
    assert bool(buffers) == (mode != "eval")
    for name, wanted in buffers.items():
        torch.testing.assert_close(written[name], wanted, rtol=1e-4, atol=1e-6, msg=name)
