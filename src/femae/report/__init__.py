"""Self-contained HTML pages and figures for print, from tables of predictions and folders of training runs."""

from femae.report.film.page import write_video_report
from femae.report.parts.page import PageOptions
from femae.report.pictures import write_pictures_report

__all__ = ["PageOptions", "write_pictures_report", "write_video_report"]
