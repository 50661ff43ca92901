"""Files of models and of training states: one kind of .npz, plain arrays and JSON, nothing unpickled.

save, load               a model; `preparation_of` its file: what raw arrays go through before it
save_state, load_state   a state of a training; `fit(checkpoint=folder)` keeps the last ones in a folder
recording                all trainings of a run, those inside of methods too
"""

from l0ref.checkpoint.model import load, preparation_of, save
from l0ref.checkpoint.run import recording
from l0ref.checkpoint.state import load_state, save_state

__all__ = ["load", "load_state", "preparation_of", "recording", "save", "save_state"]
