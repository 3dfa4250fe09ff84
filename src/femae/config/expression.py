"""The numbers of the label for people (compound.expression), as a model file carries them."""

from pydantic import Field

from femae.config.base import Config

__all__ = ["ExpressionParams"]


class ExpressionParams(Config):
    """The numbers of the rule, as a model file carries them; without any, those that stand here.

    The defaults are rounded from a network trained on the vote shares of FER+; they suit six probabilities that mean
    shares of annotators' votes.
    """

    none_bias: float = -1.0
    none_slope: float = Field(0.9, ge=0)
    none_weight: float = Field(0.0, ge=0)  # of the model's own output for none of the six
    stronger: float = Field(0.35, ge=0)
    weaker: float = Field(1.1, ge=0)
    compound_bias: float = 0.7
    scale: float = Field(1.7, gt=0)
    compound_gain: float = Field(2.0, gt=0)  # of compounds against none and single emotions
    num_faces: int = Field(0, ge=0)  # that they were fitted on; 0: the defaults, whose probability is a rough one

    @property
    def fitted(self) -> bool:
        return self.num_faces > 0
