"""One label per face: none, one of six emotions, or a compound, with a calibrated probability.

The rule of the paper (compound.rules) answers with one of its compounds whatever a face shows, as the challenge asks.
People ask first what is there. With z the logits of the six probabilities, and n that of the model's own output for
none of them (0 where it has none), every answer has a score,

    none               none_bias - none_slope * log(sum of exp z) + none_weight * n
    emotion e          z_e
    compound of a, b   stronger * max(z_a, z_b) + weaker * min(z_a, z_b) + compound_bias

and the softmax of the scores times `scale` is the probability that annotators judge the face so. The numbers are shared
by all emotions and by all pairs, so the rule also serves classes of which there are next to no pictures, and pairs of
the user's own. They are fitted to the votes of annotators over faces that the network was not trained on
(compound.expression_fit) and travel in the model file. The label is the answer of the largest probability, that
of compounds times `compound_gain`: they are rare among everyday faces, and by probability alone would hardly be said.
"""

import json
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.config.model import ExpressionParams
from femae.labels import EMOTIONS, NO_EXPRESSION, Compound, emotion_indices

__all__ = ["ExpressionRule", "answer_scores"]

_SMALLEST: Final = 1e-6  # of a probability, so that its logit is finite

Probs = npt.NDArray[np.float64]
Outputs = npt.NDArray[np.float32]


class ExpressionRule:
    """The rule for one class set: `names` are its answers, none first, then the six, then the compounds in order."""

    def __init__(self, compounds: tuple[Compound, ...], *, params: ExpressionParams | None = None) -> None:
        self.compounds = compounds
        self.params = params or ExpressionParams()
        self.names: tuple[str, ...] = (NO_EXPRESSION, *EMOTIONS, *(compound.name for compound in compounds))

    def probabilities(self, outputs: Outputs) -> Probs:
        """f64[N, 1 + 6 + K] of the answers, each row adding up to 1.

        outputs: f32[N, 6] in 0..1, the six probabilities, or f32[N, 7] with that of none of them.
        """
        scores = answer_scores(outputs, pairs=self._pairs, params=self.params) * self.params.scale
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)

    def preferences(self, answers: Probs) -> Probs:
        """log of probability times gain f64[N, 1 + 6 + K]: the label is the largest."""
        return np.log(np.maximum(answers, np.finfo(np.float64).tiny)) + self._log_gains

    def describe(self) -> str:
        """The rule in one line of JSON, for a table's metadata."""
        known = f"fitted on {self.params.num_faces} faces" if self.params.fitted else "default numbers, not calibrated"
        return json.dumps({"rule": known, **self.params.model_dump()})

    def decide(self, outputs: Outputs) -> tuple[list[str], npt.NDArray[np.float32]]:
        """N names and the probabilities f32[N] that annotators judge so, each face by itself; outputs as above."""
        answers = self.probabilities(outputs)
        best = self.preferences(answers).argmax(axis=1)
        return [self.names[k] for k in best], answers[np.arange(len(best)), best].astype(np.float32)

    @cached_property
    def _pairs(self) -> npt.NDArray[np.intp]:
        return np.array(emotion_indices(self.compounds), np.intp).reshape(-1, 2)

    @cached_property
    def _log_gains(self) -> Probs:
        counts = (1 + len(EMOTIONS), len(self.compounds))
        return np.repeat(np.log([1.0, self.params.compound_gain]), counts)


def answer_scores(outputs: npt.NDArray[np.floating], *, pairs: npt.NDArray[np.intp], params: ExpressionParams) -> Probs:
    """The scores of the table above f64[N, 1 + 6 + K], before `scale`; outputs f[N, 6 or 7], pairs i[K, 2]."""
    assert outputs.ndim == 2 and outputs.shape[1] in (6, 7), f"outputs: {outputs.shape}, expected (N, 6) or (N, 7)"
    p = np.clip(outputs.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    logits = np.log(p) - np.log1p(-p)  # [N, 6 or 7]
    six, own_none = logits[:, : len(EMOTIONS)], logits[:, len(EMOTIONS) :].sum(axis=1, keepdims=True)  # [N, 1]
    none = params.none_bias - params.none_slope * np.log(np.exp(six).sum(axis=1, keepdims=True))  # [N, 1]
    one, other = six[:, pairs[:, 0]], six[:, pairs[:, 1]]  # [N, K] each
    both = params.stronger * np.maximum(one, other) + params.weaker * np.minimum(one, other) + params.compound_bias
    return np.concatenate([none + params.none_weight * own_none, six, both], axis=1)
