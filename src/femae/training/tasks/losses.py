"""Losses over partly unknown labels (paper, eq. (1)), and those of distillation."""

import torch
import torch.nn.functional as F

__all__ = ["cross_entropy_six", "distill_kl", "distill_mse", "weighted_bce"]


def weighted_bce(
    logits: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor,
    *,
    weights: torch.Tensor,
    pos_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Eq. (1): binary cross-entropies of C labels, weighted by W_j and averaged over the known labels of a picture.

    logits, targets float[B, C], mask bool[B, C], weights W_j float[C] of both terms; pos_weights float[C] of the
    positive term alone. Returns float[], the mean over all B pictures, to which a picture without known labels adds 0:
    so the parts of a batch add up to the whole. With all labels known it is exactly eq. (1).
    """
    terms = F.binary_cross_entropy_with_logits(
        logits.float(), targets, weight=weights, pos_weight=pos_weights, reduction="none"
    )
    known = mask.to(terms.dtype)
    return ((terms * known).sum(1) / known.sum(1).clamp(min=1)).mean()


def cross_entropy_six(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy over the six emotions and `none of them`, with label shares as targets; float[].

    logits float[B, 7] (the last: none), targets float[B, 6], mask bool[B, 6]. The target of `none` is what the six
    leave of 1; targets that add up to more than 1 (a compound) are divided by their sum. Pictures with an unknown
    label add 0 to the mean.
    """
    none = (1 - targets.sum(1, keepdim=True)).clamp(min=0)
    shares = torch.cat([targets, none], 1)
    shares = shares / shares.sum(1, keepdim=True)
    per_picture = -(shares * F.log_softmax(logits.float(), 1)).sum(1)
    return (per_picture * mask.all(1)).mean()


def distill_mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared difference float[] of outputs or features, float[B, K] each."""
    return F.mse_loss(student.float(), teacher.float())


def distill_kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Mean Kullback-Leibler divergence float[] of Bernoulli distributions, times temperature ** 2.

    logits float[B, C]; each label has the probability sigmoid(logit / temperature) (Hinton et al. 2015).
    """
    student, teacher = student_logits.float() / temperature, teacher_logits.float() / temperature
    probs = torch.sigmoid(teacher)
    divergence = probs * (F.logsigmoid(teacher) - F.logsigmoid(student)) + (1 - probs) * (
        F.logsigmoid(-teacher) - F.logsigmoid(-student)
    )
    return divergence.mean() * temperature**2
