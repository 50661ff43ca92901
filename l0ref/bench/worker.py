"""The process that measures; its libraries read the number of threads from the environment at its start.

    python -m l0ref.bench.worker PLAN RESULT      both JSON: the plan as text, the result as a file to be written

Tables go to standard output as they are ready, progress to standard error. `run_plan` does the same in this process.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from l0ref.archive import json_bytes, read_json, write_atomic
from l0ref.bench.agreement import agreement
from l0ref.bench.environment import environment, environment_text
from l0ref.bench.harness import measure
from l0ref.bench.peers import PEERS
from l0ref.bench.suites import suites
from l0ref.bench.summary import read_by_goals
from l0ref.bench.table import claims_text, rows_of, work_text
from l0ref.bench.threads import pinned, variables
from l0ref.bench.work import Claim, Plan, Suite, Work, nothing
from l0ref.errors import L0RefError
from l0ref.fast.products import heights
from l0ref.pipes import tolerant


def run_plan(plan: Plan) -> dict[str, Any]:
    """Measure the suites of a plan in this process, print the tables; return {"environment", "rows"}.

    It uses the threads of this process; `run_in_worker` starts a process with the number of threads of the plan.
    """
    import_peers(plan)
    heights.chosen()  # a first measurement of kernels must not fall into a timed run
    found = environment(plan)
    sys.stdout.write(environment_text(found) + "\n")
    rows: list[dict[str, Any]] = []
    for name in plan.suites:
        for every in suites()[name].works(plan):
            if (work := read_by_goals(name, every) if plan.goals else every) is not None:
                rows += run_work(name, work, plan)
        rows += run_claims(suites()[name], plan)
    return {"environment": found, "rows": rows}


def import_peers(plan: Plan) -> None:
    """Import the libraries of the peers before l0ref initialises any library that they share."""
    for name in plan.peers:
        with suppress(ImportError):
            importlib.import_module(PEERS[name].package)


def run_work(suite: str, work: Work, plan: Plan) -> list[dict[str, Any]]:
    """Check that the contenders agree, measure them, print the table; return the rows."""
    sys.stderr.write(f"{suite}: {work.name}: comparing the contenders, and compiling at their first call ...\n")
    worst = agreement(work)
    sys.stderr.write(f"{suite}: {work.name}: {len(work.contenders)} contenders, {plan.rounds} rounds ...\n")
    with pinned(plan.threads) as pin:
        times = measure(work, rounds=plan.rounds, settle=pin if work.pinned else nothing)
    sys.stdout.write("\n" + work_text(suite, work, times, worst) + "\n")
    sys.stdout.flush()
    return rows_of(suite, work, times)


def run_claims(suite: Suite, plan: Plan) -> list[dict[str, Any]]:
    """Print every claim of a suite as it is made, then all as a table; return the rows."""
    found: list[Claim] = []
    for claim in suite.claims(plan) if suite.claims else ():
        sys.stderr.write(f"{suite.name}: {claim if isinstance(claim, str) else claim.name}\n")
        if isinstance(claim, str):
            sys.stdout.write(f"\n{suite.name}: {claim}\n")
        else:
            found.append(claim)
    if found:
        sys.stdout.write(claims_text(found) + "\n")
    return [
        {"suite": suite.name, "work": c.name, "value": c.value, "goal": c.goal, "unit": c.unit, "verdict": c.verdict}
        for c in found
    ]


def run_in_worker(plan: Plan) -> dict[str, Any]:
    """Return what `run_plan` returns, from a fresh process with the threads of the plan."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", __name__, json.dumps(plan.to_json()), str(result)]
        done = subprocess.run(command, env={**os.environ, **variables(plan.threads)}, check=False)
        if done.returncode or not result.exists():
            raise L0RefError(
                f"suites={list(plan.suites)} were not measured: the worker ended with exit code {done.returncode}; "
                "its error message is printed above"
            )
        found: dict[str, Any] = read_json(result)
    if "error" in found:
        raise L0RefError(str(found["error"]))
    return found


def main(arguments: list[str]) -> int:
    """Measure a plan and write the result, or {"error": sentence}; return the exit code of the process."""
    plan, result = Plan.from_json(json.loads(arguments[0])), Path(arguments[1])
    try:
        with tolerant():
            content = run_plan(plan)
    except L0RefError as error:
        content = {"error": str(error)}
    except KeyboardInterrupt:
        return 130
    write_atomic(result, json_bytes(content))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
