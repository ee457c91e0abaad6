"""Logistic regressions on many feature sets at once, each as strong as cross-validation finds best.

The classifiers of probes: the problems are those of scikit-learn's ``LogisticRegressionCV``, solved
for all layers and folds together, by batches of matrix products on the model's device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# The inverse strengths of the L2 penalty, for features of unit variance; cross-validation chooses
# among them. A solution is the start for the next, which has a weaker penalty.
STRENGTHS, FOLDS = (1e-4, 1e-2, 1.0), 3
# A problem is solved when its squared gradient, where its curvature is about 1, is below this share
# of its loss: accuracies then differ by less than 0.5 points from those of the exact solution.
TOLERANCE, MOST_STEPS = 1e-4, 150
# L-BFGS remembers this many steps.
MEMORY = 8
# A step is halved until it reduces the loss by this share of what its slope promises, but for
# rounding errors of this share of the loss.
DECREASE, ROUNDING, MOST_HALVINGS = 1e-4, 1e-6, 15


def accuracies(features_YND: Tensor, labels_N: Tensor, fitted: int) -> list[float]:
    """Return the accuracy of each feature set's classifier on the rows after the first ``fitted``.

    Args:
        features_YND: of unit variance, with a mean of 0.
        labels_N: classes from 0 on, equally common and in turn, so that any part of consecutive
            rows has about as many of each.
    """
    # A GPU multiplies float32 in TF32, which is too coarse here.
    features_YND = features_YND.double() if features_YND.is_cuda else features_YND
    fold_N = torch.arange(fitted, device=labels_N.device) * FOLDS // fitted
    # No rows are held out of the last fit of each.
    held_FN = torch.stack([fold_N == fold for fold in range(FOLDS + 1)])
    axes = Axes.of(features_YND, fitted)
    weights_YFKD: Tensor | None = None
    validated, tested = [], []
    for strength in STRENGTHS:
        weights_YFKD = _fit(axes, labels_N[:fitted], ~held_FN, strength, weights_YFKD)
        hits_YFN = (axes.features_YND[:, None] @ weights_YFKD.mT).argmax(-1) == labels_N
        held_hits_YF = (hits_YFN[:, :FOLDS, :fitted] & held_FN[:FOLDS]).sum(-1)
        validated.append((held_hits_YF / held_FN[:FOLDS].sum(-1)).mean(-1))
        tested.append(hits_YFN[:, FOLDS, fitted:].sum(-1))
    # The first of equally good strengths.
    best_Y = torch.stack(validated).cpu().numpy().argmax(0)
    tested_SY = torch.stack(tested).tolist()
    count = len(labels_N) - fitted
    return [tested_SY[best][layer] / count for layer, best in enumerate(best_Y)]


@dataclass(frozen=True)
class Axes:
    """Features along their principal axes, where each has a curvature of its own.

    Attributes:
        features_YND: the last is 1 everywhere, for the intercept.
        squares_YD: the sum of the squares of each over the fitted rows.
    """

    features_YND: Tensor
    squares_YD: Tensor

    @classmethod
    def of(cls, features_YND: Tensor, fitted: int) -> Axes:
        fitted_YND = features_YND[:, :fitted]
        squares_YD, axes_YDD = torch.linalg.eigh(fitted_YND.mT @ fitted_YND)
        rotated_YND = functional.pad(features_YND @ axes_YDD, (0, 1), value=1.0)
        return cls(rotated_YND, functional.pad(squares_YD.clamp(min=0), (0, 1), value=fitted))


@dataclass(frozen=True)
class Losses:
    """The cross-entropy of each subset F of the rows of each feature set Y, and its L2 penalty.

    Attributes:
        used_F1N: 1 for the rows of a subset, else 0.
        labelled_YFKD: the sum of each feature over a subset's rows of each class.
        penalties_Y11D: of each squared weight.
    """

    features_YND: Tensor
    used_F1N: Tensor
    labelled_YFKD: Tensor
    penalties_Y11D: Tensor

    def logits(self, weights_YFKD: Tensor) -> Tensor:
        logits_YfN = weights_YFKD.flatten(1, 2) @ self.features_YND.mT
        return logits_YfN.unflatten(1, weights_YFKD.shape[1:3])

    def values(self, logits_YFKN: Tensor, weights_YFKD: Tensor) -> Tensor:
        entropy_YF1N = logits_YFKN.logsumexp(2, keepdim=True) * self.used_F1N
        penalised_YFKD = self.penalties_Y11D * weights_YFKD / 2 - self.labelled_YFKD
        return entropy_YF1N.sum((2, 3)) + (weights_YFKD * penalised_YFKD).sum((2, 3))

    def gradients(self, logits_YFKN: Tensor, weights_YFKD: Tensor) -> Tensor:
        shares_YFKN = logits_YFKN.softmax(2) * self.used_F1N
        expected_YfD = shares_YFKN.flatten(1, 2) @ self.features_YND
        expected_YFKD = expected_YfD.view_as(weights_YFKD)
        return expected_YFKD - self.labelled_YFKD + self.penalties_Y11D * weights_YFKD


class Memory:
    """The last steps and changes of the gradient, from which L-BFGS knows the curvature.

    The inverse Hessian is in its compact form (Byrd, Nocedal and Schnabel 1994, equation 3.13), a
    few products for all problems instead of two loops over the steps.
    """

    def __init__(self, like_YFKD: Tensor) -> None:
        shape = (*like_YFKD.shape[:2], MEMORY, like_YFKD[0, 0].numel())
        self.steps_YFMW = self.changes_YFMW = like_YFKD.new_zeros(shape)
        self.scale_YF11 = like_YFKD.new_ones((*shape[:2], 1, 1))

    def newton(self, gradient_YFKD: Tensor) -> Tensor:
        """Return the product of the inverse Hessian and a gradient."""
        steps, changes, scale = self.steps_YFMW, self.changes_YFMW, self.scale_YF11
        gradient_YFW1 = gradient_YFKD.flatten(2)[..., None]
        products_YFMM = steps @ changes.mT
        own_YFM = products_YFMM.diagonal(dim1=-2, dim2=-1)
        # Where nothing is remembered, an equation that has the solution 0.
        upper_YFMM = products_YFMM.triu() + torch.diag_embed((own_YFM == 0).to(own_YFM))
        inner_YFM1 = torch.linalg.solve_triangular(upper_YFMM, steps @ gradient_YFW1, upper=True)
        changed_YFW1 = gradient_YFW1 - changes.mT @ inner_YFM1
        right_YFM1 = own_YFM[..., None] * inner_YFM1 - scale * (changes @ changed_YFW1)
        outer_YFM1 = torch.linalg.solve_triangular(upper_YFMM.mT, right_YFM1, upper=False)
        return (scale * changed_YFW1 + steps.mT @ outer_YFM1).view_as(gradient_YFKD)

    def remember(self, step_YFKD: Tensor, change_YFKD: Tensor) -> None:
        step_YF1W, change_YF1W = (each.flatten(2)[:, :, None] for each in (step_YFKD, change_YFKD))
        product_YF11 = (step_YF1W * change_YF1W).sum(-1, keepdim=True)
        squares_YF11 = change_YF1W.square().sum(-1, keepdim=True)
        # Rounding errors have no curvature.
        is_known = product_YF11 > ROUNDING * squares_YF11
        self.scale_YF11 = torch.where(is_known, product_YF11 / squares_YF11, self.scale_YF11)
        self.steps_YFMW = torch.cat([self.steps_YFMW[:, :, 1:], step_YF1W * is_known], 2)
        self.changes_YFMW = torch.cat([self.changes_YFMW[:, :, 1:], change_YF1W * is_known], 2)


def _fit(
    axes: Axes, labels_N: Tensor, used_FN: Tensor, strength: float, start_YFKD: Tensor | None
) -> Tensor:
    """Return the weights for each feature set and subset of rows, shape (Y, F, classes, axes)."""
    features_YND = axes.features_YND[:, : len(labels_N)]
    onehot_KN = functional.one_hot(labels_N).T.to(features_YND)
    classes = len(onehot_KN)
    penalties_D = torch.full_like(axes.squares_YD[0], 1 / strength)
    if classes == 2:
        # Weights of two classes are opposite, and share the penalty of scikit-learn's only ones.
        penalties_D *= 2
    penalties_D[-1] = 0
    # The curvature of every weight becomes about 1, for classes that are equally probable.
    units_Y11D = (axes.squares_YD / classes + penalties_D).rsqrt()[:, None, None]
    features_YND = features_YND * units_Y11D[:, 0]
    used_F1N = used_FN[:, None].to(features_YND)
    labelled_YfD = (used_F1N * onehot_KN).flatten(0, 1) @ features_YND
    labelled_YFKD = labelled_YfD.unflatten(1, (len(used_FN), classes))
    losses = Losses(features_YND, used_F1N, labelled_YFKD, penalties_D * units_Y11D**2)
    if start_YFKD is None:
        start_YFKD = torch.zeros_like(labelled_YFKD)
    return _minimise(losses, start_YFKD / units_Y11D) * units_Y11D


def _minimise(losses: Losses, weights: Tensor) -> Tensor:
    """Return the weights of the least losses, by L-BFGS from ``weights`` on."""
    memory = Memory(weights)
    logits = losses.logits(weights)
    value, gradient = losses.values(logits, weights), losses.gradients(logits, weights)
    for _ in range(MOST_STEPS):
        is_open_YF = gradient.square().sum((2, 3)) > TOLERANCE * value
        if not is_open_YF.any():
            break
        direction = -memory.newton(gradient) * is_open_YF[..., None, None]
        slope_YF = (gradient * direction).sum((2, 3))
        ahead, size_YF = losses.logits(direction), torch.ones_like(value)
        for _ in range(MOST_HALVINGS):
            size = size_YF[..., None, None]
            there, logits_there = weights + size * direction, logits + size * ahead
            value_there = losses.values(logits_there, there)
            allowed_YF = value + DECREASE * size_YF * slope_YF + ROUNDING * value
            if not (is_far_YF := value_there > allowed_YF).any():
                break
            size_YF = torch.where(is_far_YF, size_YF / 2, size_YF)
        gradient_there = losses.gradients(logits_there, there)
        memory.remember(there - weights, gradient_there - gradient)
        weights, logits, value, gradient = there, logits_there, value_there, gradient_there
    return weights
