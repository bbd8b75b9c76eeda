"""Training: the step, the loop, checkpoints, and where arrays lie on a mesh."""

from fnn.train.batches import Batches as Batches
from fnn.train.checkpoint import Checkpoints as Checkpoints
from fnn.train.fault import NotFiniteError as NotFiniteError
from fnn.train.fault import fault as fault
from fnn.train.logs import json_lines as json_lines
from fnn.train.logs import tensorboard as tensorboard
from fnn.train.loop import Fit as Fit
from fnn.train.loop import fit as fit
from fnn.train.make import make_step as make_step
from fnn.train.metrics import Metric as Metric
from fnn.train.metrics import Observed as Observed
from fnn.train.metrics import dead_units as dead_units
from fnn.train.metrics import gradient_norm as gradient_norm
from fnn.train.metrics import noise_scale as noise_scale
from fnn.train.metrics import norms_by_layer as norms_by_layer
from fnn.train.metrics import update_ratio as update_ratio
from fnn.train.private import Private as Private
from fnn.train.private import Spent as Spent
from fnn.train.restore import Restored as Restored
from fnn.train.restore import load as load
from fnn.train.scaling import LossScale as LossScale
from fnn.train.scaling import Scale as Scale
from fnn.train.state import State as State
from fnn.train.step import Step as Step
from fnn.train.update import Update as Update
from fnn.train.update import update_in_backward as update_in_backward
