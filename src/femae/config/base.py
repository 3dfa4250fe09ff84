"""The base of every configuration: frozen, and an unknown key is an error that names the nearest right one."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Config"]


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
