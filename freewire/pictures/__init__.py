# SPDX-License-Identifier: MIT
"""Pictures of wirings and of trained networks; no torch here, and matplotlib only where a figure is drawn."""

from freewire.pictures.dot import to_dot as to_dot
from freewire.pictures.figure import plot as plot
from freewire.pictures.layout import layered as layered
from freewire.pictures.page import to_html as to_html
from freewire.pictures.subject import Subject as Subject
from freewire.pictures.subject import subject as subject
from freewire.pictures.tensorboard import log_to_tensorboard as log_to_tensorboard

__all__ = ["Subject", "layered", "log_to_tensorboard", "plot", "subject", "to_dot", "to_html"]
