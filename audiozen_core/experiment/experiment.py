"""One experiment: a checked config, the objects built from it, and the run."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from audiozen_core import __version__
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.config.check import check_config
from audiozen_core.config.checked import CheckedConfig
from audiozen_core.config.load import load_config
from audiozen_core.config.overrides import Overrides
from audiozen_core.data.loader import BatchLoader
from audiozen_core.distributed.join import compare_data, compare_ranks, joined_ranks
from audiozen_core.distributed.ranks import ALONE
from audiozen_core.distributed.restarts import has_begun, note_begin
from audiozen_core.experiment.auto_threads import ThreadChoice, with_chosen_threads
from audiozen_core.experiment.build import Loaders, build_components, build_lifecycle, build_loader
from audiozen_core.experiment.component import build_component
from audiozen_core.experiment.initial_weights import LoadedWeights, load_initial_weights
from audiozen_core.experiment.lazy_modules import initialise_lazy_modules
from audiozen_core.experiment.lock import run_lock
from audiozen_core.experiment.loss_weights import load_losses
from audiozen_core.experiment.owners import name_owners
from audiozen_core.experiment.part_parameters import check_trainer, count_trained
from audiozen_core.experiment.process import no_exit, prepare_process, seed_generators, seed_of_rank
from audiozen_core.experiment.provenance import code_of, record, training_facts
from audiozen_core.experiment.replay_hint import naming_the_replay
from audiozen_core.experiment.result import ModeResult, RunResult
from audiozen_core.experiment.resume import restore, restore_for_evaluation, result_name
from audiozen_core.experiment.run_options import check_mode_names, check_run_options
from audiozen_core.experiment.session import Session, recorded_session
from audiozen_core.experiment.starting_points import StartingPoint, StartingPoints, checkpoint_name
from audiozen_core.experiment.trial import Trial
from audiozen_core.hooks.lifecycle import Lifecycle
from audiozen_core.kinds import TRAINING, Mode, RunMode
from audiozen_core.logging import buffered_for_log_file, get_logger, log_file
from audiozen_core.registry.switched_off import switched_off
from audiozen_core.storage.atomic import remove_partial_files, write_whole
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.state import kept_generators
from audiozen_core.trainer.steps import check_steps


class Experiment:
    """A TOML file that is ready to run.

    Args:
        checked: the configuration, with its components resolved.
        modes: the modes to run, in order.
        trial: a short run with only the first batches; None for a normal run.

    Example:
        >>> experiment = Experiment.load("exp.toml", modes=["train", "test"])  # doctest: +SKIP
        >>> experiment.run()  # doctest: +SKIP
    """

    def __init__(
        self, checked: CheckedConfig, modes: Sequence[RunMode] = ("train",), *, trial: Trial | None = None
    ) -> None:
        self.checked = checked
        self.config = checked.config
        self.sections = checked.sections
        self.warnings = checked.warnings
        self.modes = tuple(dict.fromkeys(modes))
        self.folder = Path(self.config.meta.save_dir).expanduser() / self.config.id
        self.trial = trial
        if trial is not None:
            self.folder = trial.folder or self.folder.with_name(f"{self.folder.name}_overfit")
        self.store = CheckpointStore(self.folder / "checkpoints")
        self.starts = StartingPoints(self.store, self.modes)
        self.log = get_logger()
        self.scope = checked.scope
        self.ranks = ALONE
        self.initial_weights: list[LoadedWeights] = []
        self.thread_choice: ThreadChoice | None = None
        self._session: Session | None = None  # the session of the current `run`, on rank 0

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        overrides: Overrides = (),
        modes: Sequence[RunMode] = ("train",),
        trial: Trial | None = None,
    ) -> Experiment:
        """Reads and checks a TOML file. Every `path` is resolved and every argument checked, but nothing is built.

        Args:
            path: the file.
            overrides: strings such as `optimizer.args.lr=3e-4`, as for `--set`; or a mapping from keys to values, such
                as `{"optimizer.args.lr": 3e-4, "+model.args.sizes": [8, 16]}`. A plus sign adds a key.
            modes: the modes to run, in order.
            trial: a short run with only the first batches; None for a normal run.

        Raises:
            ConfigError: the file has mistakes; the error lists all of them.
            RunError: a mode has an unknown name.
        """
        check_mode_names(modes)
        return cls(check_config(load_config(path, overrides, modes)), modes, trial=trial)

    def run(
        self,
        *,
        resume: bool = False,
        ckpt_path: str | None = None,
        allow_drift: bool = False,
        weights: str | None = None,
    ) -> RunResult:
        """Runs the modes in order. The result of a mode is the same as if it ran in a separate process.

        Args:
            resume: whether to continue the run in the run folder. A run without a checkpoint starts from the beginning.
            ckpt_path: `best`, `latest`, or the path of a checkpoint. Training resumes from this checkpoint, by default
                from `latest`. Finetuning starts from its weights; with `resume`, only if the run itself has not saved a
                checkpoint yet. All other modes use its weights; by default, the weights of `best`. If a mode follows
                training in the same call, it always uses the best weights of that training.
            allow_drift: whether to resume even if settings that affect training have changed since the last save.
            weights: the weights that a validation, test or prediction uses: `raw`, or a name that a hook offers, such
                as `ema`. If None, the hooks decide.

        Returns:
            The result of each mode, and the checkpoints.

        Raises:
            AudioZenError: an error that the user can fix.
        """
        check_run_options(self.modes, resume=resume, ckpt_path=ckpt_path, weights=weights)
        results: dict[RunMode, ModeResult] = {}
        with self.scope, name_owners(self.checked), buffered_for_log_file(), ExitStack() as stack:
            self.ranks = stack.enter_context(joined_ranks(self.config.distributed, self.config.meta.device))
            stack.callback(setattr, self, "ranks", ALONE)
            stack.callback(setattr, self, "_session", None)
            if self.ranks.several:
                options = {"modes": self.modes, "resume": resume, "ckpt_path": ckpt_path, "allow_drift": allow_drift}
                options["weights"] = weights
                options |= {"list of plugins that are switched off": switched_off(), "code": code_of(self.checked)}
                compare_ranks(self.ranks, self.config.text, options)
            if self.trains and self.ranks.any(has_begun()):
                # `torchrun` has restarted the processes. The first start may have saved checkpoints.
                resume, has_saved = True, self.ranks.from_main(self.store.latest is not None)
                ckpt_path = ckpt_path if "finetune" in self.modes or not has_saved else None
            if self.trains and self.ranks.is_main:
                # If building fails before anything is written to the folder, the lock removes the folder again.
                stack.enter_context(run_lock(self.folder))
                if not resume:
                    self.starts.check_no_run(is_trial=self.trial is not None)
            self.ranks.wait()
            for mode in self.modes:
                if mode != self.modes[0]:
                    # The objects of the previous mode form reference cycles, and would stay in the GPU's memory.
                    gc.collect()
                results[mode] = self._run_mode(
                    mode, stack, resume=resume, ckpt_path=ckpt_path, allow_drift=allow_drift, weights=weights
                )

        return RunResult(self.folder, results, best=self.store.best, latest=self.store.latest)

    def _run_mode(
        self,
        mode: RunMode,
        stack: ExitStack,
        *,
        resume: bool,
        ckpt_path: str | None,
        allow_drift: bool,
        weights: str | None,
    ) -> ModeResult:
        """Builds the components of one mode, restores its checkpoint, and runs it.

        Each mode builds its own networks, losses, hooks and data sets, as if it ran alone. No mode can therefore change
        the state in which another mode starts.
        """
        first = mode == self.modes[0]
        self.ranks.wait()  # rank 0 may still be writing the last checkpoint of the previous mode
        start = self.starts.of_mode(mode, ckpt_path, resume=resume)
        # The first mode builds the data of all modes, so that a mistake in a data set is found before training.
        continues = mode in TRAINING and resume and self.ranks.from_main(self.starts.continues(mode, ckpt_path))
        trained = self.starts.continued(mode, ckpt_path) if continues else None if mode in TRAINING else start
        self.settle_threads(mode, trained)
        trainer, loaders = self.build(start, modes=self.modes if first else (mode,), continues=continues)
        built = list(chain.from_iterable(loaders.values()))
        compare_data(self.ranks, {" and ".join(loader.names): loader.size for loader in built if loader.size})
        with ExitStack() as closing:
            for loader in built:
                closing.callback(loader.close)
            if mode in TRAINING and resume:
                self._resume(trainer, ckpt_path, allow_drift=allow_drift)
            elif mode not in TRAINING and start is not None:
                # Results are recorded at the epoch and step of the checkpoint.
                restore_for_evaluation(trainer, start.path, self.checked)
            trainer.weights.choose(weights)
            trainer.checkpoint_name += f"_{weights}" if weights else ""  # for the result folder
            if first:
                stack.enter_context(no_exit())
                if self.ranks.is_main:
                    if self.trains:
                        remove_partial_files(self.folder)
                    stack.enter_context(log_file(self.folder / f"{self.config.id}.log"))
                    self._session = stack.enter_context(self._record(trainer, loaders))
                else:
                    stack.enter_context(log_file(self.folder / f"{self.config.id}.rank{self.ranks.rank}.log"))
            if mode in TRAINING:
                note_begin()
            self.ranks.wait()
            with self._session.running(mode, trainer) if self._session else nullcontext():
                if mode in TRAINING:
                    with naming_the_replay(self.folder, self.store, self.trial, self.ranks.size):
                        trainer.train(loaders["train"][0], loaders.get("validate", ()))
                elif mode == "validate":
                    trainer.validate(loaders["validate"])
                elif mode == "test":
                    trainer.test(loaders["test"])
                else:
                    trainer.predict(loaders["predict"])
            return ModeResult.from_trainer(trainer)

    @property
    def trains(self) -> bool:
        """Whether one of the modes trains and therefore writes checkpoints into the run folder."""
        return any(mode in TRAINING for mode in self.modes)

    def settle_threads(self, mode: RunMode = "train", trained: StartingPoint | None = None) -> None:
        """Replaces `num_threads = "auto"` with a number, if possible with the number in the checkpoint `trained`."""
        build = partial(self.build, modes=(mode,)) if mode in TRAINING else None
        self.checked, choice = with_chosen_threads(self.checked, self.ranks, trained and trained.path, build)
        self.config, self.thread_choice = self.checked.config, choice or self.thread_choice

    def build(
        self, start: StartingPoint | None = None, *, modes: Sequence[RunMode] | None = None, continues: bool = False
    ) -> tuple[BaseTrainer, Loaders]:
        """Builds the trainer and the data of the modes. Writes no files. Call it within the experiment's `scope`.

        Args:
            start: the checkpoint that finetuning or an evaluation starts from. Its weights are loaded before the hook
                `on_setup` is called, so that an average of the weights, for example, starts from these weights.
            modes: the modes whose data to build; by default, all modes. The first of these modes is run next.
            continues: whether training continues from a checkpoint of the run, so that initial weights are not needed.

        Returns:
            The trainer, and the loaders by mode.

        Raises:
            AudioZenError: a component can't be built.
        """
        device = prepare_process(self.config.meta)
        lifecycle = self.lifecycle()
        built = self.modes if modes is None else modes
        # An evaluation needs all weights on each rank: see `whole_weights`.
        strategy, trains = self.config.distributed.strategy, any(mode in TRAINING for mode in built[:1])
        components = build_components(
            self.checked,
            lifecycle,
            self.folder,
            device,
            trains=self.trains,
            optimizes=trains or not built or (modes is None and self.trains),
            ranks=self.ranks,
            shards=self.ranks.several and trains and strategy == "fully_sharded",
        )
        trainer: BaseTrainer = build_component(self.checked.component(self.config.trainer), {"components": components})
        trainer = lifecycle.wrap_component("trainer", trainer)
        check_trainer(self.config.trainer, trainer)
        check_steps(trainer, self.modes, validates=bool(self.config.datasets["validate"]))
        loaders: Loaders = {}
        used = self._data_modes(built[:1])
        for mode in self._data_modes(built):
            # Unreadable data of a later mode is counted when that mode runs, and not in the checkpoints of this mode.
            with (trainer.unreadable if mode in used else trainer.unreadable.fresh_copy()).allow_unreadable_files(mode):
                loaders[mode] = self._loaders(mode, lifecycle, device)
        trainer.check_data(loaders)
        if "train" in loaders:
            seed_generators(self.config.meta.seed)
            initialise_lazy_modules(trainer, loaders["train"][0])
        if start is not None:
            self.starts.load_weights(trainer, start)
            if not built or built[0] not in TRAINING:
                trainer.checkpoint_name = result_name(start.asked_for, start.path, self.store.folder)
            if "finetune" in built[:1] and start.path.is_dir():
                load_losses(trainer, start.path)
        elif trains and not continues:
            self.initial_weights = load_initial_weights(trainer, self.checked)
        lifecycle.on_setup(trainer=trainer)
        trainer.state.close()
        # Seeding again makes training independent of the random numbers that were drawn while building. Each rank gets
        # a different seed, for dropout for instance. The training samples depend only on the seed of the run.
        seed_generators(seed_of_rank(self.config.meta.seed, self._share()[0]))
        return trainer, loaders

    def load_trainer(self, checkpoint: str = "best") -> tuple[BaseTrainer, Path]:
        """Builds the trainer without data, and restores a checkpoint of the run. The networks are in evaluation mode.

        The caller's random generators do not change. Hook plugins are built too, because they may change the networks
        or restore their own state. `on_setup` is the only hook that is called.

        Args:
            checkpoint: `best`, `latest`, the name of a checkpoint of this run, or a path that contains a `/`.

        Returns:
            The trainer, and the folder of the checkpoint.

        Raises:
            AudioZenError: a component can't be built, or the checkpoint can't be loaded.
        """
        with kept_generators(), self.scope, name_owners(self.checked):
            start = self.starts.locate(checkpoint)
            trainer, _ = self.build(start, modes=())
            restore_for_evaluation(trainer, start.path, self.checked)
            trainer.set_mode(training=False)
        return trainer, start.path

    def _share(self) -> tuple[int, int]:
        """Returns the rank whose share of the data this process builds, and the number of ranks."""
        return self.ranks.rank, self.ranks.size

    def lifecycle(self) -> Lifecycle:
        """Builds only the hook plugins. Call it within the experiment's `scope`."""
        with name_owners(self.checked):
            return build_lifecycle(self.checked, is_main=self.ranks.is_main)

    def _data_modes(self, modes: Sequence[RunMode]) -> list[Mode]:
        """Returns the modes whose data sets are needed. Training also validates if there is a validation set."""
        needed: list[Mode] = []
        for mode in modes:
            used: tuple[Mode, ...] = ("train", "validate") if mode in TRAINING else (mode,)  # type: ignore[assignment]
            needed += [each for each in used if self.config.datasets[each] and each not in needed]
        return needed

    def _loaders(self, mode: Mode, lifecycle: Lifecycle, device: torch.device) -> list[BatchLoader]:
        """Returns one loader for all training sets together. In other modes, each data set has its own loader."""
        sections, train, cuda = self.config.datasets[mode], mode == "train", device.type == "cuda"
        groups = [sections] if train else [[section] for section in sections]
        first = self.trial.batches if self.trial else None
        return [
            build_loader(
                self.checked, group, lifecycle, train=train, cuda=cuda, share=self._share(), first_batches=first
            )
            for group in groups
        ]

    # ------------------------------------------------------------------------------- checkpoints

    def _resume(self, trainer: BaseTrainer, which: str | None, *, allow_drift: bool) -> None:
        saved = self.store.list(verify=False)
        if "finetune" in self.modes and which is not None and not self.starts.belongs_to_run(which):
            if not saved:  # finetuning starts, and `build` has loaded the weights of the other run
                return
            which = None
        if which is None and "finetune" not in self.modes and not saved:
            self.log.warning(f"{self.folder} has no checkpoint yet, so the training starts from the beginning")
            return
        loaded = self.store.load(checkpoint_name(which or "latest"), map_location=trainer.state_device)
        restore(trainer, loaded, self.checked, allow_drift=allow_drift)
        self.ranks.wait()
        stale = self.store.rewind(loaded.path) if self.ranks.is_main else ()
        self.ranks.wait()
        if stale:
            self.log.warning(
                "later checkpoints are now stale: they are kept, but this run no longer uses them",
                checkpoints=", ".join(stale),
            )
        path = self.store.latest or loaded.path
        trainer.start_is_unsaved = self.store.latest is None
        self.log.info("resumed", checkpoint=str(path), epoch=loaded.epoch, step=loaded.step)

    # ------------------------------------------------------------------------------- records

    def _record(self, trainer: BaseTrainer, loaders: Loaders) -> AbstractContextManager[Session]:
        """Saves and logs the effective config. Returns a context manager that records the session."""
        now = datetime.now().astimezone()
        path = self.folder / f"config__{now:%Y_%m_%d--%H_%M_%S}.toml"
        facts = training_facts(loaders.get("train", ()), self.ranks.size, self.trial)
        if self.thread_choice:
            facts["threads"] = f"{self.thread_choice.count}, because {self.thread_choice.reason}"
        write_whole(path, record(self.checked, self.scope.dirs, now, self.modes, self.initial_weights, facts))
        counts = {f"{section}_parameters": count for section, count in count_trained(trainer.modules).items()}
        self.log.info(
            f"experiment {self.config.id}",
            modes=" ".join(self.modes),
            folder=str(self.folder),
            device=str(trainer.device),
            **counts,
            audiozen=__version__,
            torch=str(torch.__version__),
        )
        return recorded_session(trainer, self.modes, self.ranks, now, path)


load_experiment = Experiment.load
