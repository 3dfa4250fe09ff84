"""`femae abaw ...`: the subcommands, and the one call that does each."""

from typing import Annotated, Any

import tyro

from femae.config.abaw import AuConfig, CeConfig, ExprConfig, ScoreConfig, ValidateConfig, WriteConfig

__all__ = ["AbawCommand", "run_abaw"]

AbawCommand = (
    Annotated[CeConfig, tyro.conf.subcommand("ce", prefix_name=False)]
    | Annotated[ExprConfig, tyro.conf.subcommand("expr", prefix_name=False)]
    | Annotated[AuConfig, tyro.conf.subcommand("au", prefix_name=False)]
    | Annotated[ValidateConfig, tyro.conf.subcommand("validate", prefix_name=False)]
    | Annotated[ScoreConfig, tyro.conf.subcommand("score", prefix_name=False)]
)


def run_abaw(command: Any) -> int:
    """Run one subcommand. Returns 0, or 1 (a damaged film; faults found by `validate`). Raises FemaeError."""
    if isinstance(command, WriteConfig):
        from femae.abaw.write import run_write

        return run_write(command)
    if isinstance(command, ValidateConfig):
        from femae.abaw.check import run_validate

        return run_validate(command)
    assert isinstance(command, ScoreConfig)
    from femae.abaw.check import run_score

    return run_score(command)
