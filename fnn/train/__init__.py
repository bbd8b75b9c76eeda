"""Training steps."""

from fnn.train.update import Update as Update
from fnn.train.update import update_in_backward as update_in_backward
