"""What `sdseg VERB --help` says below the options: the keys that are set most, and commands to begin with."""

from __future__ import annotations

# Keys of the configuration that most users set; every verb that takes overrides knows all of conf/ besides.
KEYS = {
    "profile": "size of everything: smoke, cpu, gpu, paper (sdseg list profiles)",
    "method": "one method, or methods=[a,b]; methods=all has every one (sdseg list methods)",
    "dataset": "one data set, or datasets=[a,b] (sdseg list datasets)",
    "dataset.root": "with dataset=folder: the folder that holds images/ and masks/",
    "seed": "one training, or seeds=[0,1,2] for several",
    "draws": "predictions of every case, which stability compares",
    "train.steps": "optimiser steps of every method; train.batch_size, train.lr, ... likewise",
    "metrics": "what is scored: [Dice,HD95,NSD@3] (sdseg list metrics)",
    "protocol": "by whose rules: strict, or a paper's (sdseg list protocols)",
    "device": "auto, cpu or cuda",
    "runs_dir": "where the run folders are",
}
_SHOWN = {
    **dict.fromkeys(("run", "fit"), tuple(KEYS)),
    "predict": ("profile", "method", "dataset", "dataset.root", "seed", "draws", "device", "runs_dir"),
    "score": ("profile", "method", "dataset", "dataset.root", "seed", "metrics", "protocol", "runs_dir"),
    "measure": ("profile", "method", "dataset", "dataset.root", "seed", "device", "runs_dir"),
    "gate": ("profile", "method", "dataset", "seed", "runs_dir"),
    "check-method": ("profile", "dataset", "dataset.root", "device"),
}

EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "sdseg run profile=cpu dataset=folder dataset.root=DATA",
        "sdseg run profile=cpu dataset=folder dataset.root=DATA method=unet seed=1",
        "sdseg run 'methods=[sdseg,unet]' 'seeds=[0,1]' train.steps=2000",
        "sdseg run -m method=sdseg,unet seed=0,1,2 hydra/launcher=joblib",
    ),
    "fit": (
        "sdseg fit profile=cpu dataset=folder dataset.root=DATA method=sdseg",
        "sdseg fit method=unet train.steps=500 --redo fit",
    ),
    "predict": ("sdseg predict method=sdseg draws=10", "sdseg predict method=sdseg --redo predict"),
    "score": (
        "sdseg score method=sdseg protocol=monai",
        "sdseg score method=sdseg 'metrics=[Dice,HD95,NSD@3]' --workers 4",
    ),
    "measure": ("sdseg measure method=sdseg", "sdseg measure 'methods=[sdseg,unet]' 'measure.batch_sizes=[1,8]'"),
    "study": (
        "sdseg study sdseg_paper_mini",
        "sdseg study sdseg_paper --plan",
        "sdseg study sdseg_paper 'datasets=[cvc_clinicdb]' data_dir=DATA --launcher submitit",
    ),
    "segment": (
        "sdseg segment NEW_IMAGES --model runs/folder/unet/seed0-1234abcd --out MASKS",
        "sdseg segment NEW.png --model runs/folder/mine/seed0-1234abcd --out MASKS hydra.searchpath=[conf_of_mine]",
    ),
    "score-folder": (
        "sdseg score-folder PREDICTIONS REFERENCES --out SCORES",
        "sdseg score-folder PREDICTIONS REFERENCES --out SCORES --labels liver=1,tumour=2 --metrics Dice,HD95",
        "sdseg score-folder PREDICTIONS REFERENCES --out SCORES --pred-suffix _pred --groups groups.csv --workers 4",
    ),
    "import-weights": (
        "sdseg import-weights sdseg.ckpt --out WEIGHTS",
        "sdseg import-weights stable-diffusion/vae --out AUTOENCODER",
    ),
    "export": (
        "sdseg export runs/folder/sdseg/seed0-1234abcd --out model.onnx",
        "sdseg export runs/folder/mine/seed0-1234abcd --out model.onnx hydra.searchpath=[conf_of_mine]",
    ),
    "report": (
        "sdseg report",
        "sdseg report --open --watch",
        "sdseg report --runs runs --out REPORT",
        "sdseg report --against runs/report",
    ),
    "verify": ("sdseg verify runs/report", "sdseg verify REPORT --predictions"),
    "compare": ("sdseg compare sdseg unet", "sdseg compare SCORES OTHER_SCORES --metric HD95 --margin 1"),
    "gate": (
        "sdseg gate --all",
        "sdseg gate methods=[unet] gate.memory=0.1",
        "sdseg gate --promote methods=all profile=smoke runs_dir=runs/promote",
    ),
    "list": (
        "sdseg list methods",
        "sdseg list methods hydra.searchpath=[conf_of_mine]",
        "sdseg list metrics",
    ),
    "check-method": (
        "sdseg check-method unet",
        "sdseg check-method mine hydra.searchpath=[conf_of_mine] method.options.width=16",
        "sdseg check-method mine hydra.searchpath=[conf_of_mine] dataset=folder dataset.root=DATA",
    ),
    "prepare": (
        "sdseg prepare cvc_clinicdb --source archive.zip --out data/cvc_clinicdb",
        "sdseg prepare btcv --source RawData.zip --out data/btcv_paper --preprocessing paper",
        "sdseg prepare refuge2 --source mini --out data/refuge2_mini",
    ),
    "audit": (
        "sdseg audit data/cvc_clinicdb --split sequence",
        "sdseg audit DATA --manifest splits.csv",
        "sdseg audit cvc_clinicdb dataset.root=data/cvc_clinicdb dataset.split=frame_488_62",
    ),
    "doctor": ("sdseg doctor", "sdseg doctor --runs runs"),
}


def epilog(verb: str, text: str = "") -> str:
    """The lines below a verb's options."""
    width = max(map(len, KEYS))
    keys = [f"  {key:{width}}  {KEYS[key]}" for key in _SHOWN.get(verb, ())]
    said = [text] if text else []
    said += ["\n".join(["KEY=VALUE overrides, of which these are set most:", *keys])] if keys else []
    return "\n\n".join([*said, "\n".join(["examples:", *(f"  {line}" for line in EXAMPLES[verb])])])
