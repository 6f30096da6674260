"""The one training loop: plain PyTorch, resumable to the bit.

Order at start:
1. the run's own directory, when it is there;
2. otherwise `init_from`: the weights only, strictly;
3. otherwise from scratch, with the parts a transfer takes from its donor.
After 2 and 3 the perturbation, if there is one. The optimiser has only what is not frozen.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from mechgrok import discovery
from mechgrok.config import ConfigError, RunConfig
from mechgrok.models.hooked import weights
from mechgrok.models.shared_prefix import refusal
from mechgrok.options import override
from mechgrok.presets import preset, with_seed
from mechgrok.runs import layout
from mechgrok.runs.checkpoint import build_model, load_weights
from mechgrok.runs.run import Run, write_config
from mechgrok.runs.storage import RunError, lock, read_json, remove_temporary, write_json
from mechgrok.training import guards, losses, optimizers, recorders
from mechgrok.training.evaluation import evaluate_splits
from mechgrok.training.fingerprint import Fingerprint
from mechgrok.training.initial import initialise
from mechgrok.training.metrics import MetricsLog
from mechgrok.training.parts import facts, freeze
from mechgrok.training.progress import Display
from mechgrok.training.provenance import provenance
from mechgrok.training.schedule import checkpoint_rule
from mechgrok.training.state import Batches, State, resume_step


class TrainingDiverged(RuntimeError):
    """The loss was no longer finite; the last good checkpoint is kept."""


def train(
    config: RunConfig | str,
    *,
    seed: int | None = None,
    run: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    overrides: Mapping[str, Any] | None = None,
) -> Run:
    """Train a config or preset into a run directory, resuming what is there; returns the run.

    `run` defaults to `results/<preset>__seed<N>`; `overrides` are dotted fields. Ctrl-C saves and
    returns the unfinished run.

    Raises ConfigError for settings that cannot work, RunError for a directory that cannot be used
    (another config, another process, damaged, newer, or existing with `resume=False`), and
    TrainingDiverged when the loss is not finite. None of them harms an existing run.
    """
    resolved = resolve(config, seed, overrides)
    directory = Path(run) if run is not None else default_directory(resolved)
    guards.refuse_existing(directory, resume)
    guards.refuse_other(directory, resolved)
    guards.use_threads(resolved)
    trainer = _Trainer(resolved, directory)  # every setting is checked before a file is written
    with lock(directory):
        guards.refuse_other(directory, resolved)
        trainer.start()
        with trainer.display(progress):
            trainer.run()
    return Run(directory)


def resolve(
    config: RunConfig | str, seed: int | None = None, overrides: Mapping[str, Any] | None = None
) -> RunConfig:
    """A preset's name or a config, with its seed and dotted fields replaced."""
    found = preset(config) if isinstance(config, str) else config
    found = found if seed is None else with_seed(found, seed)
    return override(found, overrides or {})  # checked and spelled as it will be read back


def default_directory(config: RunConfig) -> Path:
    """`results/<preset>__seed<N>`."""
    return Path("results") / f"{config.preset}__seed{config.seeds.base}"


class _Trainer:
    """One process working on one run directory."""

    def __init__(self, config: RunConfig, directory: Path) -> None:
        self.config, self.directory = config, directory
        self.checkpoint_due = checkpoint_rule(config.schedule.checkpoints)
        if config.schedule.evaluate_every < 1 or config.stop.max_steps < 0:
            raise ConfigError(
                "schedule.evaluate_every must be at least 1, stop.max_steps at least 0"
            )
        if not 0 < config.stop.threshold <= 1:
            raise ConfigError(
                f"stop.threshold = {config.stop.threshold}; expected an accuracy above 0, at most 1"
            )
        self.task = discovery.load("tasks", config.task.name).make(config.task, config.seeds)
        self.loss = losses.make(config.loss)
        self.state = self._fresh_state()
        losses.check(config.loss, self.state.model)
        self.fingerprint = Fingerprint(
            config, self.task, self.state.model, directory, self.state.batches.per_epoch
        )
        self.log = MetricsLog(directory / "metrics.jsonl")
        self.shown = Display(config.stop.max_steps, enabled=False)
        self.full_batch: losses.Batch | None = None

    def _fresh_state(self) -> State:
        config = self.config
        model = build_model(config, self.task)
        if resume_step(self.directory) is None:
            initialise(model, config)
        freeze(model, config.transfer)
        trained = [w for w in weights(model).values() if w.requires_grad]
        optim, rows = config.optim, self.task.splits["train"]
        noise = torch.Generator(config.device).manual_seed(config.seeds.noise)
        state = State(
            config=config,
            model=model,
            optimizer=optimizers.make(trained, optim, noise),
            batches=Batches(rows, optim.batch_size, config.seeds.batch, optim.batch_share),
            noise=noise,
            recorders=recorders.make(config.record.recorders, self.directory, config, self.task),
        )
        if config.optim.ema is not None:
            state.ema = {name: w.detach().clone() for name, w in weights(model).items()}
        return state

    def start(self) -> None:
        """Go on where the directory stands, or lay it out."""
        resumed = resume_step(self.directory)
        remove_temporary(self.directory)
        model: Any = self.state.model
        said = {
            "rows_per_step": self.state.batches.size,
            "full_batch": self.state.batches.full,
            "hooked_forward_because": refusal(model),
            "task_sha256": self.task.sha256,
        }
        if resumed is None:
            self.fingerprint.start(None)
            self.log.clear()
            said |= facts(self.config, model)
            write_json(self.directory / "provenance.json", provenance(self.config, said))
        else:
            self.state.restore(self.directory, resumed)
            self.fingerprint.start(resumed)
            self.log.cut(resumed, self.config.schedule.evaluate_every)
            if not self.state.progress.stop_reason(resumed, self.config.stop):
                self._note_threads()
        write_config(self.directory / "config.yaml", self.config)
        self.resumed = resumed
        path = self.directory / "status.json"
        self.before = {} if resumed is None or not path.exists() else read_json(path)

    def _note_threads(self) -> None:
        path = self.directory / "provenance.json"
        written = Run(self.directory).provenance
        threads = torch.get_num_threads()
        if written["threads"] != threads:
            warning = f"resumed at step {self.state.step} with {threads} threads"
            warning += f", started with {written['threads']}: no longer equal to the bit"
            print(f"warning: {warning}")
            warnings = [*written.get("warnings", []), warning]
            write_json(path, {**written, "warnings": warnings})

    def display(self, enabled: bool) -> Display:
        """The progress bar, or plain lines."""
        self.shown = Display(self.config.stop.max_steps, enabled, start=self.state.step)
        return self.shown

    def run(self) -> None:
        """The loop; a file that cannot be written is noted in the status, if that still can be."""
        try:
            with closing(self.fingerprint):
                self._loop()
        except RunError as error:
            with suppress(RunError):
                self._status("failed", str(error))
            raise

    def _loop(self) -> None:
        """Evaluate, keep, stop or step, until the stop rule or Ctrl-C."""
        state = self.state
        self._status("running")
        with guards.interruptible() as interrupted:
            while True:
                if state.step != self.resumed:
                    self._look()
                reason = state.progress.stop_reason(state.step, self.config.stop)
                if reason or interrupted.is_set():
                    return self._finish(reason)
                self._step()

    def _look(self) -> None:
        state = self.state
        if state.step % self.config.schedule.evaluate_every == 0:
            metrics = self._evaluate()
            for recorder in state.recorders.values():
                metrics |= recorder.observe(state.step, state.model)
            if not all(math.isfinite(value) for value in metrics.values()):
                self._diverged(f"metrics {metrics}")
            self.log.append(metrics)
            every, threshold = self.config.schedule.evaluate_every, self.config.stop.threshold
            state.progress = state.progress.after(metrics, every, threshold)
            self.shown.show(metrics)
        if self.checkpoint_due(state.step, state.progress.metrics):
            self._save()

    def _save(self) -> None:
        if not all(bool(w.isfinite().all()) for w in weights(self.state.model).values()):
            self._diverged("weights that are not finite")
        self.log.sync()
        self.fingerprint.sync()
        self.state.save(self.directory)

    def _evaluate(self) -> dict[str, float]:
        with self._averaged():
            metrics = evaluate_splits(self.state.model, self.task, self.loss, self.config.device)
        lr = optimizers.learning_rate(self.config.optim, self.state.step)
        return {"step": self.state.step, **metrics, "lr": lr, "seconds": self.shown.seconds}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in the model's place, where an average is kept."""
        if not self.state.ema:
            yield
            return
        raw = {name: w.detach().clone() for name, w in weights(self.state.model).items()}
        load_weights(self.state.model, self.state.ema)
        try:
            yield
        finally:
            load_weights(self.state.model, raw)

    def _step(self) -> None:
        state, config = self.state, self.config
        if not self.fingerprint.record(state.step, state.model):
            self._diverged("fingerprints that are not finite")
        rate = optimizers.learning_rate(config.optim, state.step)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.zero_grad()
        with guards.matmul_precision(config):
            loss, _ = self.loss(state.model, self._batch(), state.noise)
            if not math.isfinite(float(loss.detach())):
                self._diverged(f"loss {float(loss.detach())}")
            loss.backward()
        if config.optim.clip_norm is not None:
            trained = [weight for _, weight in state.trained()]
            torch.nn.utils.clip_grad_norm_(trained, config.optim.clip_norm)
        state.optimizer.step()
        if config.optim.ema is not None:
            for name, weight in weights(state.model).items():
                state.ema[name].lerp_(weight.detach(), 1 - config.optim.ema)
        state.step += 1
        self.shown.advance()

    def _batch(self) -> losses.Batch:
        """The next rows; a full batch is gathered once, so that its plan is made once."""
        rows = self.state.batches.next()
        if not self.state.batches.full:
            return losses.Batch.of(self.task, rows, self.config.device)
        if self.full_batch is None:
            self.full_batch = losses.Batch.of(self.task, rows, self.config.device)
        return self.full_batch

    def _finish(self, reason: str | None) -> None:
        state = self.state
        if state.step != self.resumed and state.step != resume_step(self.directory):
            self._save()
        if state.step % self.config.schedule.evaluate_every:
            self.log.append(self._evaluate())  # off the grid: shown, but cut again on resume
        self._status("finished" if reason else "interrupted", reason or "Ctrl-C")

    def _diverged(self, what: str) -> None:
        kept = layout.steps(self.directory, "checkpoints")
        reason = f"{what} at step {self.state.step}"
        self._status("diverged", reason)
        raise TrainingDiverged(
            f"{reason}; {self.directory} keeps {len(kept)} checkpoints, the last at step "
            f"{kept[-1] if kept else 'none'}. Try a smaller optim.lr, or loss.dtype float64"
        )

    def _status(self, state: str, reason: str = "") -> None:
        found = {"state": state, "step": self.state.step, "reason": reason}
        found |= {"reached": dict(self.state.progress.reached)}
        found |= {"trigger": self.state.progress.trigger(self.config.stop)}
        # over all processes of the run: what the seconds per step are taken from
        found["seconds"] = round(self.before.get("seconds", 0) + self.shown.seconds, 3)
        done = self.state.step - (self.resumed or 0)
        found["steps"] = self.before.get("steps", 0) + done
        write_json(self.directory / "status.json", found)
