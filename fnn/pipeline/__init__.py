"""Pipelines: the layers of a `Repeat` in stages on several devices, by a schedule that is a value."""

from fnn.pipeline.makers import gpipe as gpipe
from fnn.pipeline.makers import one_f_one_b as one_f_one_b
from fnn.pipeline.makers import zero_bubble as zero_bubble
from fnn.pipeline.run import shardings as shardings
from fnn.pipeline.run import value_and_grad as value_and_grad
from fnn.pipeline.schedule import Op as Op
from fnn.pipeline.schedule import Schedule as Schedule
