"""Slurm jobs that make images, submitted by submitit. Driver and jobs share a folder, and talk in it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
import uuid
from collections import deque
from collections.abc import Hashable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.errors import GeneratorError
from generators.making.crew import CrewEngine, Ended, Message
from generators.making.lines import Beat, Inbox, Outbox
from generators.making.place import Place
from generators.making.slurm_job import POLL, work
from generators.making.spec import MakerSpec
from generators.request import ImageRequest
from generators.stores.opening import open_store
from promptopt.base.files import writable_folder

if TYPE_CHECKING:
    from generators.stable_diffusion.facts import RuntimeFacts

logger = logging.getLogger(__name__)

SILENCE = 180.0
"""Seconds without a sign of life of a job that had begun after which it is given up."""
BATCHES = 8
"""Batches handed out at a time, unless the place says how many images: a look at a shared disk takes time."""
_BESIDE_A_GPU = 4
_LOOK = 1.0  # seconds; submitit asks Slurm more rarely
_LIVING = {
    *("", "UNKNOWN", "READY", "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "RESIZING", "SIGNALING"),
    *("REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "STAGE_OUT", "STOPPED", "SUSPENDED"),
}


def slurm_jobs(spec: MakerSpec, place: Place, *, first: Job | None = None) -> CrewEngine:
    """The engine of Slurm jobs, one maker each.

    Args:
        first: a job that runs already, from `facts_there`.

    Raises:
        GeneratorError: submitit or Slurm is not there, or the folder cannot be written.
    """
    jobs = Jobs(place) if first is None else first.jobs
    return CrewEngine(
        SlurmCrew(spec, jobs, first=first), spec, count=place.count, store=open_store(spec.store)
    )


def facts_there(place: Place, settings: Mapping[str, Any]) -> tuple[RuntimeFacts, Job]:
    """`generators.card.runtime_facts` of the machine of a job, and the job, which waits for more to do.

    Raises:
        GeneratorError: as `slurm_jobs`; or the job ends without an answer.
    """
    from generators.stable_diffusion.facts import RuntimeFacts

    job = Jobs(place).start()
    try:
        logger.warning("waiting for a job of Slurm (%s), which says what kind of GPU it has", job.number)
        job.outbox.send({"facts": dict(settings)})
        while True:
            for said in job.inbox.read():
                if "facts" in said:
                    return RuntimeFacts(**said["facts"]), job
                raise GeneratorError(f"--on slurm: {said.get('failed', said.get('ended'))}")
            if why := job.end():
                raise GeneratorError(f"--on slurm: a job {why}")
            time.sleep(POLL)
    except BaseException:
        job.cancel()
        raise


class Jobs:
    """Submits jobs of one place; their logs, `N_0_log.out` and `.err`, and lines lie in one folder."""

    def __init__(self, place: Place) -> None:
        self.local = place.job.local
        self._executor = _executor(place, _folder(place))

    def start(self) -> Job:
        """One more job, which may wait long for its turn."""
        from submitit.core.utils import FailedSubmissionError, UncompletedJobError

        name = uuid.uuid4().hex
        folder = self._executor.folder
        inbox, outbox = folder / f"{name}.out", Outbox(folder / f"{name}.in")
        inbox.touch()
        try:
            # submitit pickles what it is given, by a folder that this user alone may write. It is given a
            # function's name and two texts; requests and settings go by lines of JSON, and so do answers: no
            # result is ever unpickled.
            submitted = self._executor.submit(work, str(folder), name)
        except (FailedSubmissionError, UncompletedJobError, OSError) as error:
            said = " ".join(str(error).split())
            raise GeneratorError(f"--on slurm: the job was not taken: {said}") from error
        return Job(self, submitted, Inbox(inbox), outbox)


class Job:
    """One job: its two files of lines, and what Slurm knows of it."""

    def __init__(self, jobs: Jobs, submitted: Any, inbox: Inbox, outbox: Outbox) -> None:
        self.jobs = jobs
        self._local = jobs.local
        self._submitted = submitted
        self.inbox = inbox
        self.outbox = outbox
        self._looked = time.monotonic()
        self._beat = Beat(lambda: [outbox])

    @property
    def number(self) -> str:
        """Its number in Slurm."""
        return str(self._submitted.job_id)

    def end(self) -> str | None:
        """How it ended, as the end of a sentence; None while it may live. Slurm is asked now and then."""
        now = time.monotonic()
        if self.inbox.heard is not None and now - self.inbox.heard > SILENCE:
            return f"({self.number}) was not heard of for {SILENCE:.0f} seconds; its log is {self.log}"
        if now - self._looked < _LOOK:
            return None
        self._looked = now
        state = self._state()
        return None if state in _LIVING else f"({self.number}) ended ({state.lower()}); its log is {self.log}"

    def cancel(self) -> None:
        """Take it from the queue, or end it."""
        self._beat.stop()
        with suppress(OSError):
            self.outbox.send({"end": True})
        if not self._local:
            self._submitted.cancel(check=False)
        elif self._state() == "RUNNING":
            with suppress(ProcessLookupError):  # submitit's own way ends in a traceback on the terminal
                os.kill(int(self.number), signal.SIGTERM)

    @property
    def log(self) -> Path:
        """What it wrote on stderr."""
        return Path(self._submitted.paths.stderr)

    def _state(self) -> str:
        # "CANCELLED by 1000", "CANCELLED+"
        said = str(self._submitted.state).upper().split()
        return said[0].rstrip("+") if said else ""


class SlurmCrew:
    """A `Crew` of jobs."""

    def __init__(self, spec: MakerSpec, jobs: Jobs, *, first: Job | None = None) -> None:
        self._spec = spec
        self._jobs = jobs
        self._first = first
        self._running: dict[Hashable, Job] = {}
        self._heard: deque[tuple[Hashable, Message]] = deque()

    def start(self) -> Hashable:
        """One more job, or the one that runs already."""
        job, self._first = self._first or self._jobs.start(), None
        self._running[job.number] = job
        job.outbox.send({"spec": self._spec.to_json()})
        return job.number

    def send(self, worker: Hashable, chunk: list[ImageRequest]) -> None:
        """See `Crew.send`."""
        self._running[worker].outbox.send({"chunk": [request.to_json() for request in chunk]})

    def hear(self, timeout: float) -> tuple[Hashable, Message] | None:
        """See `Crew.hear`."""
        end = time.monotonic() + timeout
        while not self._heard:
            for number, job in list(self._running.items()):
                self._listen(number, job)
            if self._heard or time.monotonic() > end:
                break
            time.sleep(POLL)
        return self._heard.popleft() if self._heard else None

    def look_after(self) -> None:
        """`hear` does."""

    def close(self) -> None:
        """Cancel all jobs."""
        running, self._running = list(self._running.values()), {}
        if self._first is not None:
            running.append(self._first)
            self._first = None
        self._heard.clear()
        for job in running:
            job.cancel()

    def _listen(self, number: Hashable, job: Job) -> None:
        why = job.end()  # before it is read, as its last words may come in between
        said: list[Message] = []
        for line in job.inbox.read():
            over = "ended" in line
            said.append(Ended(f"({number}) {line['ended']}; its log is {job.log}") if over else line)
        if why is not None and not any(isinstance(one, Ended) for one in said):
            said.append(Ended(why))
        if any(isinstance(one, Ended) or "failed" in one for one in said):
            self._running.pop(number).cancel()
        self._heard.extend((number, one) for one in said)


def _folder(place: Place) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    parent = writable_folder(Path(place.job.folder).expanduser().absolute(), "the folder of --on slurm",
                             error=GeneratorError)  # fmt: skip
    folder = parent / f"{stamp}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o700)
    return folder


def _executor(place: Place, folder: Path) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise GeneratorError(
            "--on slurm: submitit is not installed; pip install 'promptopt[slurm]'"
        ) from error
    job = place.job
    if job.local:
        executor: Any = submitit.LocalExecutor(folder)
        executor.update_parameters(timeout_min=job.minutes, gpus_per_node=int(place.gpus))
        return executor
    missing = [name for name in ("sbatch", "srun", "scancel") if shutil.which(name) is None]
    if missing:
        raise GeneratorError(
            f"--on slurm: there is no {missing[0]} on the PATH; run this where jobs are submitted (a login "
            "node, perhaps after `module load slurm`), or write processes:N or ray in place of slurm"
        )
    executor = submitit.SlurmExecutor(folder)
    executor.update_parameters(**_parameters(place))
    return executor


def _parameters(place: Place) -> dict[str, Any]:
    """What goes into the job's script, in submitit's words."""
    job = place.job
    asked: dict[str, Any] = {
        "job_name": "promptopt",
        "partition": place.address,
        "time": job.minutes,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": job.cpus or threads_of(place),
        "gpus_per_node": f"{place.gpu}:1" if place.gpu else int(place.gpus),
        "mem": f"{job.memory_gb}GB" if job.memory_gb else "",
        "account": job.account,
        "qos": job.qos,
        "constraint": job.constraint,
    }
    # A job that comes back would find another one in its place.
    return {key: value for key, value in asked.items() if value} | {
        "additional_parameters": {"no-requeue": True}
    }


def threads_of(place: Place) -> int:
    """Threads of a job: on the CPU as many as here, because rounding depends on their number."""
    if place.gpus:
        return place.job.cpus or _BESIDE_A_GPU
    import torch

    return torch.get_num_threads()
