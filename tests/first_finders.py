"""Two workers of which the first finds something: a module of its own, as processes import it by name."""

import json
import time
from datetime import timedelta
from pathlib import Path

from torch import distributed

from deep_clustering.training.workers import joined, of_first

# Until an exchange of the two has failed.
SECONDS = 2.0


def find(rank, folder, seconds, fails):
    """Notes what each has of what the first finds after some seconds, or the error that it gets."""

    def first():
        time.sleep(seconds)
        if fails:
            raise ValueError("not to be found")
        return {"by": rank}

    limit = timedelta(seconds=SECONDS)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=limit)
    with joined(rank, 2):
        try:
            found = of_first(first)
        except ValueError as error:
            found = str(error)
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()
