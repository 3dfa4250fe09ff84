"""Self-contained pages and figures for print, made from tables of predictions and from folders of training runs."""

from femae.report.pictures_report import write_pictures_report
from femae.report.video_report import write_video_report

__all__ = ["write_pictures_report", "write_video_report"]
