"""Weight pruning by surrogate Lagrangian relaxation, and by the ADMM it is compared with.

    minimise f(W) + sum_n [Z_n has at most l_n non-zeros]  subject to W_n = Z_n
    L(W, Z, Lam) = f(W) + sum_n <Lam_n, W_n - Z_n> + rho/2 ||W_n - Z_n||^2

    start   Z = proj(W), Lam = 0, s = s0, k = 1
    W-step  an epoch of training on f + rho/2 ||W - Z + Lam/rho||^2
            condition 1:  L(W', Z, Lam) < L(W, Z, Lam), or k = 1
    Z-step  Z' = proj(W' + Lam/rho): the largest magnitudes, an exact number of them
            condition 2:  L(W', Z', Lam) <= L(W', Z, Lam), which an exact projection always meets
    after either step, if its condition holds:
            s <- alpha_k s ||g before|| / ||g||,  Lam <- Lam + s g,  k <- k + 1,   g = the current W - Z
            alpha_k = 1 - 1 / (M k^(1 - 1/k^r)); norms are summed over layers; where g = 0 nothing changes, and where
            W = Z at the start (W had few enough non-zeros) the ratio of the first update is 1
    end     W <- proj(W)

    ADMM    Z = proj(W + Lam/rho), then Lam <- Lam + rho (W - Z), each epoch, no conditions

By construction s_k ||g_k|| = alpha_k s_(k-1) ||g_(k-1)||. rho is relative to the curvature of f.

Ref      Zhou, Bragin, Gurevin, Pepin, Miao, Ding 2023 (arXiv 2304.04120), and the first author's code: its constants
         M = 300, r = 0.1, s0 = 0.01, rho = 0.1 are the defaults. Tables of the paper were not read [U].
Departs  f in the conditions is the loss on fixed samples, of the weights before and after the epoch, both with the
         biases and buffers after it, so that L changes by the weights alone. The authors' code compares mean losses of
         epochs, stores a reference to the live weights as the previous ones, and starts the previous W and Z from 0
         [I]. The budget is met over the network, or by layer with scope="layer". There is no weight decay (theirs is
         5e-4), and the cosine ends at 1 % of lr (theirs at 4e-8).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from l0ref import metrics
from l0ref.data import Splits
from l0ref.methods.consensus import RECORDS, Consensus, Relaxation, kept, projection
from l0ref.methods.registry import NO_FEED, Feed, Pruned, calibration, method
from l0ref.nn import Model
from l0ref.optim import SGD
from l0ref.schedules import Cosine
from l0ref.training import TrainingState, fit
from l0ref.validate import Array, count, positive

PAPER = "Zhou et al. 2023"


def relaxed(
    model: Model, data: Splits, *, seed: int, how: Mapping[str, Any], epochs: int, lr: float, rho: float, samples: int,
    feed: Feed, **rule: Any,
) -> Pruned:  # fmt: skip
    """Train by SLR or ADMM and prune at the end; `rule` has the settings of `Relaxation`, `how` those of `kept`."""
    sample = calibration(model, data, samples=samples, seed=seed)

    def loss(w: Mapping[str, Array]) -> float:
        arrays = {key: v.astype(model.dtype) for key, v in w.items()}
        return metrics.evaluate(now.replace(params={**now.params, **arrays}), sample).loss

    now = model  # `loss` takes biases and buffers from it
    start = {key: np.array(model.params[key], np.float64) for key in model.weights}
    dual = Relaxation(positive("rho", rho), projection(model, **how), loss, start, **rule)
    penalty = Consensus(rho=dual.rho, targets=dual.targets())

    def after_epoch(state: TrainingState, _: Mapping[str, Any]) -> TrainingState:
        nonlocal now
        now = state.model(model)
        dual.after_epoch(state.params)
        penalty.targets.update(dual.targets())
        return dataclasses.replace(state, carried=dual.carried())

    def resumed(state: TrainingState) -> None:
        dual.take_up(state.carried)
        penalty.targets.update(dual.targets())

    trained, history = fit(
        model, data.train, epochs=count("epochs", epochs, least=1), seed=seed, penalty=penalty, phase="prune",
        optimizer=SGD(lr=positive("lr", lr), momentum=0.5, nesterov=True), schedule=Cosine(final=0.01),
        after_epoch=after_epoch, resumed=resumed, progress="none", **feed,
    )  # fmt: skip
    return Pruned(trained.replace(masks=kept(model, trained.params, **how)), dual.record, epochs=len(history))


@method(
    "slr", paper=PAPER, kind="training", reads=("weights", "training"), records=RECORDS, marks="[I][U]", random=True
)
def slr(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    structure: str = "element", epochs: int = 10, lr: float = 0.01, rho: float = 0.1, big_m: float = 300.0,
    r: float = 0.1, step: float = 0.01, samples: int = 1000, feed: Feed = NO_FEED,
) -> Pruned:  # fmt: skip
    """Train towards sparse weights by surrogate Lagrangian relaxation, then prune.

    structure        "element", or with scope="layer" "column" or "filter" of the weight as a matrix (out, rest)
    epochs, lr       of SGD with Nesterov momentum 0.5 and a cosine schedule; the authors' code trains for 100 epochs
    rho              weight of the quadratic; big_m, r, step are M, r and s0 of the step rule
    samples          of the training set on which f is measured in the conditions, with the biases after the epoch
    record           after each epoch: residual (sum of ||W - Z||), loss f; at each half step: conditions (1 held, 0 did
                     not); at each update: steps s, alphas
    """
    how = {"structure": structure, "amount": amount, "scope": scope, "min_keep": min_keep}
    rule = {"big_m": positive("big_m", big_m), "r": positive("r", r), "step": positive("step", step)}
    return relaxed(model, data, seed=seed, how=how, epochs=epochs, lr=lr, rho=rho, samples=samples, feed=feed, **rule)


@method("admm", paper="control of slr", kind="training", reads=("weights", "training"), records=RECORDS, random=True)
def admm(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    structure: str = "element", epochs: int = 10, lr: float = 0.01, rho: float = 0.1, samples: int = 1000,
    feed: Feed = NO_FEED,
) -> Pruned:  # fmt: skip
    """Train towards sparse weights by the alternating direction method of multipliers, then prune.

    options and record as in `slr`; steps, alphas and conditions are empty
    """
    how = {"structure": structure, "amount": amount, "scope": scope, "min_keep": min_keep}
    return relaxed(
        model, data, seed=seed, how=how, epochs=epochs, lr=lr, rho=rho, samples=samples, feed=feed, admm=True
    )
