"""Files of models and of training states: one kind of .npz, plain arrays and JSON, nothing unpickled.

save, load               a model; `preparation_of` reads the preparation of raw arrays that is stored with it
save_state, load_state   a state of a training; `fit(checkpoint=folder)` keeps the last ones in a folder
recording                all trainings of a run, including those inside methods
"""

from l0ref.checkpoint.model import load, preparation_of, save
from l0ref.checkpoint.run import recording
from l0ref.checkpoint.state import load_state, save_state

__all__ = ["load", "load_state", "preparation_of", "recording", "save", "save_state"]
