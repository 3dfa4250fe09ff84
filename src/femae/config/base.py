"""The base of every configuration: frozen, and an unknown key is an error that suggests the nearest known one."""

import difflib
from contextvars import ContextVar
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from femae.errors import ConfigError

__all__ = ["Config"]

_inside: ContextVar[bool] = ContextVar("inside", default=False)  # True while an outer configuration is being read


def _sentence(error: ErrorDetails, names: list[str]) -> str:
    """One fault of a configuration in words, without pydantic's types and addresses."""
    where = ".".join(str(part) for part in error["loc"]).replace("_", "-")
    if error["type"] == "extra_forbidden":
        last = str(error["loc"][-1])
        near = difflib.get_close_matches(last, names, n=1)
        return f"there is no setting '{where}'" + (f"; did you mean '{near[0]}'?" if near else "")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "value_error":
        return f"{where}: {message}" if where else message
    found = repr(error["input"])
    return f"{where} cannot be {found if len(found) < 80 else found[:77] + '...'}: {message[0].lower()}{message[1:]}"


def _all_names(model: type[BaseModel]) -> list[str]:
    names: list[str] = []
    for name, field in model.model_fields.items():
        names.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += _all_names(field.annotation)
    return names


class Config(BaseModel):
    """Frozen settings; a wrong value or an unknown key raises ConfigError with one sentence per fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)  # built when first used

    def __init__(self, **data: Any) -> None:
        if _inside.get():  # the outermost one says what is wrong, with the whole path
            super().__init__(**data)
            return
        token = _inside.set(True)
        try:
            super().__init__(**data)
        except ValidationError as error:
            names = _all_names(type(self))
            raise ConfigError("; ".join(_sentence(fault, names) for fault in error.errors())) from None
        finally:
            _inside.reset(token)
