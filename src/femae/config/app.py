"""Settings of `femae app`."""

from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from femae.config.base import Config
from femae.config.options import DebugOption, DeviceOption, LabelsOption, ThreadsOption

__all__ = ["AppConfig"]


class AppConfig(Config):
    """A page in your browser: drop films and pictures or use the camera, look at the result, download the table.

    The page is served by this computer to this computer; films never leave it. Ctrl-C stops it and removes every file.
    """

    models: Annotated[tuple[Path, ...], tyro.conf.Positional] = Field(
        (), description="femae models (.onnx) to choose from besides the one that ships"
    )
    labels: LabelsOption = "expression"
    port: int = Field(0, ge=0, le=65535, description="port of the page; 0: any that is free")
    open: bool = Field(False, description="open the page in the browser")
    listen_on_all_interfaces: bool = Field(
        False,
        description=(
            "also let other computers of the network reach the page, at a printed address that contains a secret; "
            "the connection is not encrypted"
        ),
    )
    max_upload_mb: float = Field(2000, gt=0, description="largest upload of one job, megabytes")
    max_minutes: float = Field(30, gt=0, description="longest film, minutes")
    max_job_minutes: float = Field(120, gt=0, description="time limit of one job, minutes")
    max_memory_mb: float = Field(4000, ge=500, description="memory limit of one job, megabytes (enforced on Linux)")
    max_pictures: int = Field(500, ge=1, description="largest number of pictures in one job")
    max_jobs: int = Field(20, ge=1, description="largest number of jobs at a time, waiting and finished ones included")
    keep_minutes: float = Field(120, gt=0, description="remove the files of a finished job after this many minutes")
    device: DeviceOption = "auto"
    threads: ThreadsOption = None
    debug: DebugOption = False
