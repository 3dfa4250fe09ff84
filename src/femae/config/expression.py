"""The numbers of the label for people (compound.expression), as a model file carries them."""

from pydantic import Field

from femae.config.base import Config

__all__ = ["ExpressionParams"]


class ExpressionParams(Config):
    """The numbers of the rule, as a model file carries them; without any, those that stand here.

    The defaults suit six probabilities that mean shares of annotators' votes: none where they add up to less than about
    a half, a compound where the second is at least about half of the first.
    """

    none_bias: float = 0.0
    none_slope: float = Field(1.0, ge=0)
    stronger: float = Field(0.5, ge=0)
    weaker: float = Field(0.5, ge=0)
    compound_bias: float = 0.0
    scale: float = Field(1.0, gt=0)
    emotion_gain: float = Field(1.0, gt=0)  # against none
    compound_gain: float = Field(1.0, gt=0)  # against none
    num_faces: int = Field(0, ge=0)  # that they were fitted on; 0: the defaults, whose probability is a rough one

    @property
    def fitted(self) -> bool:
        return self.num_faces > 0
