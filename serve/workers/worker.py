"""One worker: the parts of a server that are others where several processes serve."""

import logging
import signal
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from serve.adapter_loading import AdapterLoading
from serve.api_keys import ApiKey, ApiKeys
from serve.engine import Engine
from serve.lookup import LookupEngine
from serve.lookup_room import Siblings
from serve.served_settings import ServedSettings
from serve.telemetry.outage import Outage
from serve.workers.adapter_state import AdapterStateFile
from serve.workers.allowances import SharedApiKeys
from serve.workers.control import Answer, ControlServer
from serve.workers.metrics import SERIES, ServerMetrics
from serve.workers.outage import SharedOutage
from serve.workers.place import ALLOWANCES, OUTAGE, RECORDS, TURN, WorkerPlace, settle
from serve.workers.server import WorkerServer
from serve.workers.shared_engine import APPLY, SharedEngine
from serve.workers.shared_records import SharedRecords, SharedTurn
from serve.workers.siblings import SiblingWorkers, answers_of

logger = logging.getLogger(__name__)
RETIRE = signal.SIGUSR2


class Worker:
    """A process that serves beside others."""

    is_alone = False

    def __init__(self, place: WorkerPlace) -> None:
        """Take a place: pin the process to its cores, and end with the supervisor."""
        settle(place)
        self.place = place
        self.made: WorkerServer | None = None
        self.running_settings: ServedSettings | None = None

    def settings(self, args: Namespace) -> Namespace:
        """Return the settings with this worker's share of the threads."""
        return Namespace(**{**vars(args), "threads": args.threads or self.place.threads})

    def kept_settings(self) -> ServedSettings | None:
        """Return the settings of the other workers; None for the first one and for successors, which read their own."""
        return None if self.place.is_anew else self.place.kept.read()

    def keep(self, settings: ServedSettings) -> None:
        """Keep the settings of this worker once it is ready."""
        self.running_settings = settings
        if self.made is not None and self.made.is_ready:
            self.place.kept.write(settings)

    def api_keys(self, keys: dict[str, ApiKey]) -> ApiKeys:
        """Return API keys whose allowances all workers share."""
        return SharedApiKeys(keys, self.place.folder / ALLOWANCES)

    def outage(self) -> Outage:
        """Return the state of the collector, which the workers share."""
        return SharedOutage(self.place.folder / OUTAGE)

    def share(self, engine: Engine, named: Mapping[Path, str]) -> Engine:
        """Return an engine with the adapters of all workers; `named` has those of its own by their folders."""
        folders = {name: folder for folder, name in named.items()}
        self.shared = SharedEngine(
            engine, folders, AdapterStateFile(self.place.folder), self.place.board, self.place.entry
        )
        self.shared.join(self._listen_to_siblings)
        return self.shared

    def loading(self, engine: Engine, root: Path | None, started: Mapping[Path, str]) -> AdapterLoading:
        """Return the adapters of folders, whose records the workers share."""
        turn = SharedTurn(self.place.folder / TURN)
        records = SharedRecords(self.place.folder / RECORDS, turn)
        return AdapterLoading(engine=engine, root=root, started=started, records=records, turn=turn)

    def siblings(self) -> Siblings:
        """Return the other workers."""
        return SiblingWorkers(self.place.board, self.place.folder, self.place.entry)

    def attach(self, app: FastAPI) -> None:
        """Answer the siblings, and give the metrics of all of them in the place of this worker's own."""
        metrics = ServerMetrics(app.state.metrics.registry, self.place.board, self.place.folder, self.place.entry)
        app.state.exposition = metrics.exposition
        answers: dict[str, Answer] = {SERIES: metrics.series, APPLY: self.shared.answer}
        if isinstance(app.state.engine, LookupEngine):
            answers |= answers_of(app.state.engine.uses)
        self.control.answers = answers

    def server(self, *arguments: Any, **options: Any) -> WorkerServer:
        """Return a server as `Server` takes it, which retires for a successor."""
        self.made = WorkerServer(*arguments, place=self.place, on_ready=self._keep_first, **options)
        signal.signal(RETIRE, self.made.handle_retire)
        return self.made

    def _keep_first(self) -> None:
        assert self.running_settings is not None
        self.place.kept.write(self.running_settings)

    def _listen_to_siblings(self) -> None:
        self.control = ControlServer(self.place.control_socket)
        self.control.start({APPLY: self.shared.answer})
