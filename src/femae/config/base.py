"""The base class of all configurations: frozen; an unknown key is an error that suggests the nearest known one."""

import difflib
from contextvars import ContextVar
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from femae.errors import ConfigError

__all__ = ["Config"]

_is_nested: ContextVar[bool] = ContextVar("is_nested", default=False)  # True while an outer Config is validated


def _message(error: ErrorDetails, names: list[str]) -> str:
    """A validation error as a sentence, without pydantic's types and links."""
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
    """Frozen settings; a wrong value or an unknown key raises ConfigError with one sentence per error."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def __init__(self, **data: Any) -> None:
        if _is_nested.get():  # the outermost Config reports errors, with the full path
            super().__init__(**data)
            return
        token = _is_nested.set(True)
        try:
            super().__init__(**data)
        except ValidationError as error:
            names = _all_names(type(self))
            raise ConfigError("; ".join(_message(details, names) for details in error.errors())) from None
        finally:
            _is_nested.reset(token)
