"""An engine that fails one cell of a sweep, as a cluster may."""

from deep_clustering.launchers import Local


class FailsGMM(Local):
    def submit(self, function, *args):
        if "gmm" in str(args) and "seed1" in str(args):
            return super().submit(_refuse, "node lost at https://me:hunter2@cluster/queue")
        return super().submit(function, *args)


def _refuse(message):
    raise ConnectionError(message)
