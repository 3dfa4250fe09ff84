"""What each command's options are and which one call does it."""

from typing import Any

from femae.config.predict import DemoConfig, ModelsConfig, PredictConfig

__all__ = ["config_type", "run_data", "run_demo", "run_models", "run_predict"]


def config_type(command: str) -> Any:
    """The configuration that tyro fills from the options of `command`."""
    if command == "data":
        from femae.cli.data import DataCommand

        return DataCommand
    return {"predict": PredictConfig, "demo": DemoConfig, "models": ModelsConfig}[command]


def run_predict(config: PredictConfig) -> int:
    from femae.inference.run import run_predict as run

    return run(config)


def run_demo(config: DemoConfig) -> int:
    from femae.inference.demo import demo_inputs

    predict = PredictConfig(inputs=demo_inputs(), out=config.out, video=config.video, debug=config.debug)
    return run_predict(predict)


def run_models(config: ModelsConfig) -> int:
    from femae.inference.models import print_models

    return print_models(config)


def run_data(command: Any) -> int:
    from femae.cli.data import run_data as run

    return run(command)
