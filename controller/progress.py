"""What a person sees in the terminal while a run goes on."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from controller import events as e
from controller.journal import Journal
from controller.limits import Budget


class RunProgress:
    """Follows a journal: a bar on a terminal, one line per sub-scan elsewhere."""

    def __init__(self, journal: Journal, budget: Budget, console: Console) -> None:
        self._journal = journal
        self._budget = budget
        self._console = console
        self._lock = threading.Lock()
        self._best: float | None = None
        self._progress = Progress(
            TextColumn("[bold]{task.description:<10}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            console=console,
            transient=False,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("idle", total=budget.n_sub_scans, facts="")
        journal.listen(self.take)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def take(self, entry: e.Entry) -> None:
        """Show what a journal entry changes."""
        with self._lock:
            line = self._line(entry.event)
            if line:
                self._console.print(line)
            state = self._journal.state
            self._progress.update(
                self._task,
                description=state.phase.value,
                completed=state.n_measured,
                facts=self._facts(),
            )

    def _facts(self) -> str:
        ledger = self._journal.state.ledger
        share = ledger.total_e_per_A2 / self._budget.max_total_dose_e_per_A2
        best = "" if self._best is None else f"best {self._best:.3g}  "
        return f"{best}dose {share:.0%} of budget"

    def _line(self, event: e.AnyEvent) -> str:
        """Return the line an event is worth, "" for none."""
        match event:
            case e.PhaseChanged() if event.reason or not self._console.is_terminal:
                why = f": {escape(event.reason)}" if event.reason else ""
                return f"[dim]{event.new.value}{why}[/]"
            case e.Described(objective=float(value)):
                self._best = value if self._best is None else max(self._best, value)
                return "" if self._console.is_terminal else self._sub_scan(event, value)
            case e.LimitTripped():
                where = f"{event.sub_scan_id}: " if event.sub_scan_id else ""
                return (
                    f"[yellow]limit: {where}{event.rule} {event.value:.4g} {event.unit}, "
                    f"limit {event.limit:.4g} ({event.action})[/]"
                )
            case e.FrameRejected():
                return f"[yellow]{event.sub_scan_id}: frames not used: {escape(event.why)}[/]"
            case e.SuspenderTripped():
                return f"[yellow]holding: {escape(event.why)}[/]"
            case e.Warned():
                return f"[yellow]{escape(event.what)}[/]"
            case e.CommandRefused():
                return f"[yellow]'{event.command.cmd}' refused: {escape(event.why)}[/]"
            case _:
                return ""

    def _sub_scan(self, event: e.Described, value: float) -> str:
        outcome = self._journal.state.outcomes[event.id]
        y, x = outcome.sub_scan.center_nm
        n, of = self._journal.state.n_measured, self._budget.n_sub_scans
        return f"{n}/{of} {event.id} at ({y:.2f}, {x:.2f}) nm: objective {value:.4g}"
