"""One label per face: none, one of six emotions, or a compound, with a calibrated probability.

The rule of the paper (compound.rules) always names a compound, whatever a face shows, as the challenge requires. For
people the label may also be none or a single emotion. With z the logits of the six probabilities, and n the logit of
the model's own output for none (0 if it has no such output), every answer has a score,

    none               none_bias - none_slope * log(sum of exp z) + none_weight * n
    emotion e          z_e
    compound of a, b   stronger * max(z_a, z_b) + weaker * min(z_a, z_b) + compound_bias

and the softmax of the scores times `scale` is the probability that annotators choose this label. The parameters are
shared by all emotions and by all pairs, so the rule also works for classes with almost no pictures and for pairs that
the user defines. They are fitted to annotators' votes on faces that the network was not trained on
(training.tasks.expression) and stored in the model file. The label is the answer with the largest probability, where
that of a compound is multiplied by `compound_gain`: compounds are rare among everyday faces and would hardly ever win.
"""

import json
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.config.model import ExpressionParams
from femae.labels import EMOTIONS, NO_EXPRESSION, Compound, emotion_indices

__all__ = ["ExpressionRule", "answer_scores"]

_MIN_PROB: Final = 1e-6  # probabilities are clipped, so that logits are finite

Probs = npt.NDArray[np.float64]
Outputs = npt.NDArray[np.float32]


class ExpressionRule:
    """The rule for one class set; `names` are its answers: none, the six emotions, the compounds in order."""

    def __init__(self, compounds: tuple[Compound, ...], *, params: ExpressionParams | None = None) -> None:
        self.compounds = compounds
        self.params = params or ExpressionParams()
        self.names: tuple[str, ...] = (NO_EXPRESSION, *EMOTIONS, *(compound.name for compound in compounds))

    def probabilities(self, outputs: Outputs) -> Probs:
        """Probabilities f64[N, 1 + 6 + K] of the answers; each row sums to 1.

        outputs: f32[N, 6] in 0..1, the six probabilities, or f32[N, 7] with that of none.
        """
        scores = answer_scores(outputs, pairs=self._pairs, params=self.params) * self.params.scale
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)

    def preferences(self, answers: Probs) -> Probs:
        """log(probability * gain) f64[N, 1 + 6 + K] from `probabilities`; the label is the largest."""
        return np.log(np.maximum(answers, np.finfo(np.float64).tiny)) + self._log_gains

    def describe(self) -> str:
        """The rule as one line of JSON, for a table's metadata."""
        known = f"fitted on {self.params.num_faces} faces" if self.params.fitted else "default numbers, not calibrated"
        return json.dumps({"rule": known, **self.params.model_dump()})

    def decide(self, outputs: Outputs) -> tuple[list[str], npt.NDArray[np.float32]]:
        """N labels and their probabilities f32[N]; each face by itself, `outputs` as in `probabilities`."""
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
    """The unscaled scores f64[N, 1 + 6 + K] (module docstring); outputs f[N, 6 or 7], pairs i[K, 2]."""
    assert outputs.ndim == 2 and outputs.shape[1] in (6, 7), f"outputs: {outputs.shape}, expected (N, 6) or (N, 7)"
    p = np.clip(outputs.astype(np.float64), _MIN_PROB, 1 - _MIN_PROB)
    logits = np.log(p) - np.log1p(-p)  # [N, 6 or 7]
    six, own_none = logits[:, : len(EMOTIONS)], logits[:, len(EMOTIONS) :].sum(axis=1, keepdims=True)  # [N, 1]
    none = params.none_bias - params.none_slope * np.log(np.exp(six).sum(axis=1, keepdims=True))  # [N, 1]
    one, other = six[:, pairs[:, 0]], six[:, pairs[:, 1]]  # [N, K] each
    both = params.stronger * np.maximum(one, other) + params.weaker * np.minimum(one, other) + params.compound_bias
    return np.concatenate([none + params.none_weight * own_none, six, both], axis=1)
