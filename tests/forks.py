"""Code in a child of this process, which has the libraries loaded: to start Python anew for it takes seconds."""

import os
import sys
import traceback


def run_forked(code: str, *arguments: object) -> int:
    """Run code with the arguments in `sys.argv`; returns the exit code, the negative signal if one ended it."""
    child = os.fork()
    if child == 0:
        end = 1
        try:
            sys.argv = ["-c", *map(str, arguments)]
            exec(code, {"__name__": "__main__"})
            end = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(end)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
