"""Settings of all commands as pydantic models: the only place where options and recipe keys are defined."""
