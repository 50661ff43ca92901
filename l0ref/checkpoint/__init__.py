"""Files of models and of training states: one kind of .npz, plain arrays and JSON, nothing unpickled.

save, load               a model
save_state, load_state   a state of a training; `fit(checkpoint=folder)` keeps the last ones in a folder
recording                all trainings of a run, those inside of methods too
"""

from l0ref.checkpoint.model import load, save
from l0ref.checkpoint.run import recording
from l0ref.checkpoint.state import load_state, save_state

__all__ = ["load", "load_state", "recording", "save", "save_state"]
