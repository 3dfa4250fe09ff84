"""Settings reject unknown keys and wrong values with clear sentences."""

import pytest
from pydantic import ValidationError

from femae.config.model import ModelConfig
from femae.config.predict import DetectConfig, PredictConfig
from femae.errors import ConfigError


def test_an_unknown_key_names_the_nearest_right_one() -> None:
    with pytest.raises(ConfigError, match="there is no setting 'detect-evry'; did you mean 'detect_every'"):
        DetectConfig(detect_evry=2)  # type: ignore[call-arg]


def test_an_unknown_key_inside_another_config_is_found() -> None:
    with pytest.raises(ConfigError, match=r"there is no setting 'detect.min-fase'; did you mean 'min_face'"):
        PredictConfig(inputs=("a.mp4",), detect={"min_fase": 3})  # type: ignore[arg-type]


def test_a_value_out_of_range_is_one_sentence_without_addresses() -> None:
    with pytest.raises(ConfigError) as caught:
        DetectConfig(detect_every=0)
    assert str(caught.value) == "detect-every cannot be 0: input should be greater than or equal to 1"


def test_formats_are_split_lowered_and_unique() -> None:
    assert PredictConfig(inputs=("a",), format="CSV, parquet,csv").formats == ("csv", "parquet")
    with pytest.raises(ConfigError, match="'xls' is not a table format; expected one or more of csv, parquet, jsonl"):
        PredictConfig(inputs=("a",), format="csv,xls")


def test_configs_are_frozen() -> None:
    config = ModelConfig()
    with pytest.raises(ValidationError):
        config.depth = 3  # type: ignore[misc]
