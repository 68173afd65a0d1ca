"""Run the agent with a wall clock that is wrong: ``clock.py SECONDS run …``."""

import runpy
import sys
import time

real, step = time.time, float(sys.argv.pop(1))
time.time = lambda: real() + step
runpy.run_module("unitagent", run_name="__main__", alter_sys=True)
