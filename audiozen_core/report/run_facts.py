"""Reads facts about the runs of a report: their states, times, memory, commands and environments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.config.used_plugins import RECORDS, used_plugins_header
from audiozen_core.experiment.run_records import main_record
from audiozen_core.experiment.session_file import SessionRecord
from audiozen_core.report.subjects import ReportRun
from audiozen_core.report.words import format_duration
from audiozen_core.runs.summary import RunSummary, read_run

_PARAMETERS = re.compile(r'"model_parameters": (\d+)')
_BEGIN_OF_LOG = 1 << 20
_UNKNOWN = "not recorded"


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """One start of a run.

    Attributes:
        when: the time of the start, in ISO 8601.
        modes: the modes, such as `train test`.
        command: the command line.
        ending: how the run ended.
        took: how long the run took, such as `1 h 1 min`; "" if it is unknown.
        memory: the peak memory of the process, and of the GPU; "" if it is unknown.
    """

    when: str
    modes: str
    command: str
    ending: str
    took: str
    memory: str


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Facts about a run, as texts for the page.

    Attributes:
        run: the run.
        state: what the run is doing, or how it ended.
        is_running: whether the run is active.
        training_time: the total training time over all starts.
        parameters: the number of parameters; "" if it is unknown.
        best: the best validation score and its epoch; "" if there is none.
        facts: the environment of the newest start that trained, or else of the newest start: the device, the commit,
            Python, …
        versions: the version of each distribution in this environment, by name.
        starts: the starts of the run, oldest first.
    """

    run: ReportRun
    state: str
    is_running: bool
    training_time: str
    parameters: str
    best: str
    facts: dict[str, str]
    versions: dict[str, str]
    starts: tuple[SessionFacts, ...]


def read_facts(run: ReportRun) -> RunFacts:
    """Reads facts about a run. The run may be active."""
    summary = read_run(run.folder)
    records = sorted(run.folder.glob(RECORDS))
    # The environment of the training is shown, because a later test may have used another machine and other versions.
    main = main_record(run.folder)
    session = next((session for session in summary.sessions if main and session.record == main.name), None)
    count = _parameters(run.folder)
    return RunFacts(
        run,
        _state(summary),
        summary.state == "running",
        _training_time(summary),
        f"{count:,}" if count else "",
        f"{summary.monitor or 'score'} {summary.best.score:.4g} in epoch {summary.best.epoch}" if summary.best else "",
        {
            "folder": str(run.folder),
            "device": _device(session) if session else _UNKNOWN,
            "machine": session.host if session else _UNKNOWN,
            "batch job": session.job if session else "",
            "commit": used_plugins_header(main, "commit") if main else "",
            "Python": used_plugins_header(main, "python") if main else "",
            "plugins": used_plugins_header(main, "plugins") if main else "",
            "initial weights": used_plugins_header(main, "model.init") if main else "",
        },
        _versions(main),
        tuple(_starts(records, summary.sessions)),
    )


def differing_versions(facts: Sequence[RunFacts]) -> dict[str, list[str]]:
    """Returns the versions of each run by distribution, for distributions whose versions differ between the runs.

    A run records the distributions that were imported at its start. If a version is missing, the distribution may have
    been imported later, so a missing version does not count as a difference.
    """
    names = sorted({name for run in facts for name in run.versions}, key=str.lower)
    rows = {name: [run.versions.get(name, "") for run in facts] for name in names}
    return {name: row for name, row in rows.items() if len(set(filter(None, row))) > 1}


def _state(summary: RunSummary) -> str:
    epoch = f"epoch {summary.epoch}{f' of {summary.max_epochs}' * bool(summary.max_epochs)}" if summary.epoch else ""
    return ", ".join(filter(None, (summary.state, epoch))) + (f": {summary.reason}" if summary.reason else "")


def _training_time(summary: RunSummary) -> str:
    if summary.training_seconds is None:
        return _UNKNOWN
    return f"{'more than ' * summary.is_time_partial}{format_duration(summary.training_seconds)}"


def _device(session: SessionRecord) -> str:
    name = f" ({session.device_name})" if session.device_name else ""
    return f"{session.device}{name}{f', {session.processes} processes' * (session.processes > 1)}"


def _parameters(folder: Path) -> int | None:
    """Returns the number of parameters from the log of a run; None if the log does not contain it."""
    # The log of a run that was renamed or copied still has the original name.
    for log in sorted(folder.glob("*.log"), key=lambda path: path.stem != folder.name):
        try:
            with log.open("rb") as file:
                text = file.read(_BEGIN_OF_LOG).decode(errors="replace")
        except OSError:
            continue
        if match := _PARAMETERS.search(text):
            return int(match[1])
    return None


def _versions(record: Path | None) -> dict[str, str]:
    text = used_plugins_header(record, "versions") if record else ""
    pairs = (part.rpartition(" ") for part in text.split(", ") if part)
    return {name: version for name, _, version in pairs}


def _starts(records: Sequence[Path], sessions: Sequence[SessionRecord]) -> list[SessionFacts]:
    """Returns the starts of a run. Older versions of AudioZEN wrote a config file for each start, but no session."""
    session_of_record = {session.record: session for session in sessions}
    starts = []
    for record in records:
        session = session_of_record.get(record.name)
        starts.append(
            SessionFacts(
                used_plugins_header(record, "started"),
                used_plugins_header(record, "modes"),
                used_plugins_header(record, "command"),
                _ending(session) if session else _UNKNOWN,
                format_duration(session.seconds) if session and session.seconds is not None else "",
                _memory(session) if session else "",
            )
        )
    return starts


def _ending(session: SessionRecord) -> str:
    ending = session.ending or "no ending was recorded: the run is active, or it was killed"
    return f"{ending}: {session.reason}" if session.reason else str(ending)


def _memory(session: SessionRecord) -> str:
    parts = []
    if session.peak_memory is not None:
        parts.append(_bytes(session.peak_memory))
    if session.peak_gpu_memory is not None:
        parts.append(f"GPU {_bytes(session.peak_gpu_memory)}")
    return ", ".join(parts)


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
