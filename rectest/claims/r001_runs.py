"""Report 001, continued: the fused score and its remedies in trainings of `ur4rec`, and what its inputs were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rectest.claims.claim import Measured, Stated, finding
from rectest.claims.r001 import BOOK
from rectest.record import RunRecord, RunSpec

if TYPE_CHECKING:
    from rectest.claims.runs import Runs

__all__: list[str] = []

STEPS = 160
STAGE_ONE: dict[str, Any] = {"normalise": False, "stages": ["pretrain_sasrec"], "stage_shares": [1.0]}
"""What the report's run had come to: the retriever still frozen, and on its own scale."""


def _run(config: Mapping[str, Any]) -> RunSpec:
    return RunSpec(system="ur4rec", steps=STEPS, config=config)


def _parts(record: RunRecord) -> Mapping[str, Mapping[str, float]]:
    parts: Mapping[str, Mapping[str, float]] = record.facts["probes"]["components"]
    return parts


@BOOK.claim(
    20,
    "a retriever that has not learned yet leaves the fused ranking usable at equal weights",
    stated={"config": STAGE_ONE, "share": 0.8},
    counter={"config": {}},
    trains=lambda stated: [_run(stated["config"])],
)
def fused_is_usable(stated: Stated, runs: Runs) -> Measured:
    """Recall of each part alone and of their sum, with the spread of their scores, after training."""
    (record,) = runs.train([_run(stated["config"])])
    parts = _parts(record)
    alone = max(values["recall@10"] for name, values in parts.items() if name != "fused")
    texts = [f"{name} {values['recall@10']:.3f} (spread {values['spread']:.3g})" for name, values in parts.items()]
    return Measured(
        figure=f"recall@10 among 100: {', '.join(texts)}; chance 0.1",
        verdict=finding(parts["fused"]["recall@10"] >= stated["share"] * alone),
        truth="the part with the larger scale decides alone, whatever the weights say: this is the report's fault, in "
        "a training of ours",
        where="facts of the records: probes; rectest.checks.fusion",
        command="rectest train ur4rec --steps 160 --set normalise=false --set 'stages=[\"pretrain_sasrec\"]' "
        "--set stage_shares=[1.0]",
    )


@BOOK.claim(
    21,
    "the retriever needs the adaptive alternation switched off to be trained",
    stated={"config": {}, "moved": 1e-3},
    counter={"config": STAGE_ONE},
    trains=lambda stated: [_run(stated["config"])],
)
def retriever_trains(stated: Stated, runs: Runs) -> Measured:
    """How far the retriever's parameters move with the alternation on, by the stages that train it."""
    (record,) = runs.train([_run(stated["config"])])
    named = record.facts["parameters"]["named"]
    own = [values["moved"] for name, values in named.items() if name.startswith("retriever.")]
    still = sum(value <= stated["moved"] for value in own)
    return Measured(
        figure=f"{len(own) - still} of {len(own)} tensors of the retriever moved with the alternation on",
        verdict=finding(still > 0.5 * len(own)),
        truth="what trains the retriever is a stage that unfreezes it; the alternation is called in one only, and "
        "leaving out pretrain_retriever, as advised, takes away the stage that trained it",
        where="facts of the records: parameters; rectest.checks.learning",
    )


REMEDIES: dict[str, dict[str, Any]] = {
    "as it ran": STAGE_ONE,
    "lr x10, dropout 0.2": {**STAGE_ONE, "sasrec_dropout": 0.2, "learning_rate": 5e-2},
    "weights 0.7/0.3": {**STAGE_ONE, "sasrec_weight": 0.7, "retriever_weight": 0.3},
    "half the size": {**STAGE_ONE, "embedding_size": 16},
    "10 negatives": {**STAGE_ONE, "num_negatives": 10},
    "normalised scores": {**STAGE_ONE, "normalise": True},
    "normalised, all stages": {},
}
"""One remedy of the report at a time on the faulty run, then the two that it does not name."""


@BOOK.claim(
    22,
    "smaller model, dropout, learning rate, negatives and weights mend the metrics",
    stated={"remedies": tuple(REMEDIES)[1:5], "chance": 0.05, "enough": 0.5},
    counter={"remedies": tuple(REMEDIES)[6:]},
    trains=lambda _stated: [_run(config) for config in REMEDIES.values()],
)
def remedies(stated: Stated, runs: Runs) -> Measured:
    """hit@5 of the fused score, each remedy alone on the faulty run, and what it reaches of the healthy one's lead."""
    records = runs.train([_run(config) for config in REMEDIES.values()])
    hits = {name: record.final("test/hit@5") for name, record in zip(REMEDIES, records, strict=True)}
    healthy = hits["normalised, all stages"]
    needed = stated["chance"] + stated["enough"] * (healthy - stated["chance"])
    return Measured(
        figure="hit@5 " + ", ".join(f"{value:.3f} {name}" for name, value in hits.items()),
        verdict=finding(any(hits[name] >= needed for name in stated["remedies"])),
        truth="none of them touches the cause, which is the scale: put both scores on one",
        where="final metrics of the records",
        command="rectest train ur4rec --set normalise=false ...",
    )


@BOOK.claim(
    23,
    "the texts about the users know nothing of what is to be predicted",
    stated={"mentioned": {"held out": 21.5, "3-10": 23.0, "11-20": 23.5, "21-30": 0.8, "31-50": 0.4}, "random": 0.06},
    counter={"mentioned": {"held out": 0.07, "3-10": 23.0, "11-20": 23.5, "21-30": 0.8, "31-50": 0.4}},
)
def texts_are_blind(stated: Stated, _runs: Runs) -> Measured:
    """Share (%) of items that a released text mentions, by distance from the end, against random unseen items."""
    held_out, random = stated["mentioned"]["held out"], stated["random"]
    return Measured(
        figure=f"{held_out} % of the held-out items are mentioned, {random} % of random unseen ones "
        f"(x{held_out / random:.0f}); by distance from the end: "
        + ", ".join(f"{name} {share} %" for name, share in stated["mentioned"].items()),
        verdict=finding(held_out < 3 * random),
        truth="texts written from the last 20 items, the targets among them: what a text retriever gains with them is "
        "no evidence (whether the report's run had these files is unknown)",
        where="counted in the released texts, which are not shipped; rectest.checks.leak.mention_rates",
    )


@BOOK.claim(
    24,
    "the settings of the improved configuration take effect",
    stated={
        "given": (
            "hidden size", "dropout", "learning rates", "batch_size", "num_negatives", "weights", "stages",
            "use_adaptive_alternating", "interaction_threshold",
        ),
        "dead": ("stages", "epochs_per_stage", "patience", "use_adaptive_alternating", "seed"),
    },
    counter={"dead": ()},
)  # fmt: skip
def settings_are_read(stated: Stated, _runs: Runs) -> Measured:
    """Keys that are given in a file and taken from the command line, or from nowhere."""
    idle = [key for key in stated["given"] if key in stated["dead"]]
    return Measured(
        figure=f"{len(idle)} of {len(stated['given'])} given settings are read by nobody{': ' if idle else ''}"
        f"{', '.join(idle)}",
        verdict=finding(not idle),
        truth="the stages came from the command line; a setting that nobody reads can be changed at will",
        where="the published program; rectest.checks.configuration refuses such keys",
    )
