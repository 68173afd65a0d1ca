"""Run the agent with a wall clock that is wrong: ``clock.py SECONDS[,PATH] run …``, once that file exists."""

import os
import runpy
import sys
import time

real = time.time
step, _, when = sys.argv.pop(1).partition(",")
time.time = lambda: real() + float(step) * (not when or os.path.exists(when))  # noqa: PTH110 - asked often
runpy.run_module("unitagent", run_name="__main__", alter_sys=True)
