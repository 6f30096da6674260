"""The optimisers follow torch's own or their formula, step by step, and resume to the bit."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from mechgrok.config import AdamW, ConfigError
from mechgrok.training.optimizers import PowerAdam, learning_rate, make
from mechgrok.training.state import Batches

DECAY = 0.5


def trajectory(
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    steps: int = 20,
    schedule: Callable[[int], float] = lambda step: 1e-2,
) -> list[Tensor]:
    """Two tensors after every step on a random quadratic loss, in float64."""
    chance = torch.Generator().manual_seed(0)
    draw: Any = lambda *shape: torch.randn(*shape, generator=chance).double()  # noqa: E731
    weights = [nn.Parameter(draw(4, 3)), nn.Parameter(draw(5))]
    targets = [(draw(*w.shape), draw(*w.shape)) for w in weights]
    made, found = optimizer(weights), []
    for step in range(steps):
        for group in made.param_groups:
            group["lr"] = schedule(step)
        made.zero_grad()
        losses = [(a * (w - b).square()).sum() for w, (a, b) in zip(weights, targets, strict=True)]
        torch.stack(losses).sum().backward()
        made.step()
        found.append(torch.cat([w.detach().flatten() for w in weights]).clone())
    return found


def largest(one: list[Tensor], two: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True))


def ours(form: Any, noise_factor: float = 0.0, seed: int = 0, **fields: Any) -> Any:
    """The class for the other forms, asked for any form."""
    config = AdamW(weight_decay=DECAY, weight_decay_form=form, noise_factor=noise_factor, **fields)
    return lambda w: PowerAdam(w, config, torch.Generator().manual_seed(seed))


def torchs(kind: Any, decay: float = DECAY) -> Any:
    return lambda w: kind(w, lr=1e-2, betas=(0.9, 0.98), eps=1e-8, weight_decay=decay)


def warm(step: int) -> float:
    return learning_rate(AdamW(lr=1e-2), step)


@pytest.mark.parametrize("schedule", [lambda step: 1e-2, warm])
def test_to_zero_is_torchs_adamw(schedule: Any) -> None:
    reference = trajectory(torchs(torch.optim.AdamW), schedule=schedule)
    config = AdamW(lr=1e-2, weight_decay=DECAY)
    made = trajectory(lambda w: make(w, config), schedule=schedule)
    # one fused kernel and several: float64 rounding of values of order one
    assert largest(made, reference) < 1e-13
    assert largest(trajectory(ours("to_zero"), schedule=schedule), reference) < 1e-13
    assert largest(trajectory(torchs(torch.optim.Adam), schedule=schedule), reference) > 1e-3


def test_honest_is_torchs_adam_with_coupled_decay() -> None:
    assert largest(trajectory(ours("honest")), trajectory(torchs(torch.optim.Adam))) < 1e-13
    made = trajectory(lambda w: make(w, AdamW(weight_decay=DECAY, weight_decay_form="honest")))
    assert largest(made, trajectory(torchs(torch.optim.Adam))) < 1e-13


def test_atan2_is_its_formula_and_forgets_the_scale_of_the_loss() -> None:
    config = AdamW(lr=1e-2, weight_decay=DECAY, update="atan2")
    found = trajectory(lambda w: make(w, config))
    chance = torch.Generator().manual_seed(0)
    draw: Any = lambda *shape: torch.randn(*shape, generator=chance).double()  # noqa: E731
    weights = [draw(4, 3), draw(5)]
    targets = [(draw(*w.shape), draw(*w.shape)) for w in weights]
    moments = [(w * 0, w * 0) for w in weights]
    for t in range(1, 21):
        for i, (w, (a, b)) in enumerate(zip(weights, targets, strict=True)):
            grad, (m, v) = 2 * a * (w - b), moments[i]
            m, v = 0.9 * m + 0.1 * grad, 0.98 * v + 0.02 * grad**2
            moments[i] = (m, v)
            angle = torch.atan2(m / (1 - 0.9**t), (v / (1 - 0.98**t)).sqrt())
            weights[i] = w * (1 - 1e-2 * DECAY) - 1e-2 * 1.27 * angle
    expected = torch.cat([w.flatten() for w in weights])
    assert float((found[-1] - expected).abs().max()) < 1e-12
    assert largest(found, trajectory(torchs(torch.optim.AdamW))) > 1e-3  # the control


def test_atan2_has_no_other_decay() -> None:
    with pytest.raises(ConfigError, match="set optim.weight_decay_form to_zero"):
        make([nn.Parameter(torch.zeros(1))], AdamW(update="atan2", weight_decay_form="to_init"))


def test_a_clipped_gradient_moves_plain_descent_by_its_norm(tmp_path: Path) -> None:
    """With Adam a scale cancels in the first step but not over steps, and nothing is clipped
    below the limit."""
    settings = {"optim.batch_size": 10, "stop.max_steps": 20}
    free = tiny.train(tiny.config(), tmp_path / "free", **settings)
    high = tiny.train(tiny.config(), tmp_path / "high", **settings, **{"optim.clip_norm": 1e6})
    low = tiny.train(tiny.config(), tmp_path / "low", **settings, **{"optim.clip_norm": 0.05})
    last = [tiny.trained_parts(run.path)["checkpoint 20"] for run in (free, high, low)]
    assert last[0] == last[1]
    assert last[2] != last[0]


def by_hand(decay: Callable[[Tensor, Tensor, float], Tensor]) -> list[Tensor]:
    """Adam's formula written out, with a decay of (weights, first weights, lr) before it."""

    class Plain(torch.optim.Optimizer):
        def __init__(self, weights: list[nn.Parameter]) -> None:
            super().__init__(weights, {"lr": 0.0})
            self.kept = [(w, w.detach().clone(), w * 0, w * 0) for w in weights]
            self.t = 0

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            self.t += 1
            rate = self.param_groups[0]["lr"]
            for w, first, m, v in self.kept:
                assert w.grad is not None
                w.copy_(decay(w, first, rate))
                m.copy_(0.9 * m + 0.1 * w.grad)
                v.copy_(0.98 * v + 0.02 * w.grad**2)
                seen = (m / (1 - 0.9**self.t), v / (1 - 0.98**self.t))
                w.sub_(rate * seen[0] / (seen[1].sqrt() + 1e-8))

    return trajectory(Plain)


def test_to_init_pulls_towards_the_first_weights() -> None:
    expected = by_hand(lambda w, first, rate: w + (first - w) * rate * DECAY)
    assert largest(trajectory(ours("to_init")), expected) < 1e-13
    assert largest(trajectory(ours("to_zero")), expected) > 1e-3  # the control


def test_jiggle_multiplies_each_tensor_by_one_number() -> None:
    chance = torch.Generator().manual_seed(7)

    def decay(w: Tensor, first: Tensor, rate: float) -> Tensor:
        xi = torch.empty((), dtype=torch.float64).normal_(generator=chance)
        return w * math.exp(rate * DECAY * float(xi))

    assert largest(trajectory(ours("jiggle", seed=7)), by_hand(decay)) < 1e-13
    assert largest(trajectory(ours("jiggle", seed=8)), trajectory(ours("jiggle", seed=7))) > 1e-6


def test_noise_is_added_to_the_update_in_units_of_the_rate() -> None:
    weights = nn.Parameter(torch.zeros(50_000).double())
    weights.grad = torch.full_like(weights, 1.0)
    config = AdamW(lr=0.01, weight_decay=0.0, noise_factor=3.0)
    optimizer = make([weights], config, torch.Generator().manual_seed(0))
    optimizer.step()
    # the first Adam update of a gradient of 1 is 1 (less eps); on top N(0, 3^2), times the rate
    moved = -weights.detach() / 0.01 - 1
    assert abs(float(moved.mean())) < 5 * 3 / math.sqrt(50_000)
    assert abs(float(moved.std()) / 3 - 1) < 5 / math.sqrt(100_000)


@pytest.mark.parametrize("form", ["to_zero", "to_init", "honest"])
def test_no_number_is_drawn_without_need(form: Any) -> None:
    chance = torch.Generator().manual_seed(0)
    before, everywhere = chance.get_state(), torch.get_rng_state()
    trajectory(lambda w: make(w, AdamW(weight_decay_form=form), chance))
    assert torch.equal(before, chance.get_state())
    trajectory(lambda w: make(w, AdamW(weight_decay_form="jiggle", noise_factor=1.0), chance))
    assert torch.equal(everywhere, torch.get_rng_state())
    assert not torch.equal(before, chance.get_state())


@pytest.mark.parametrize("fields", [{"noise_factor": 0.1}, {"weight_decay_form": "jiggle"}])
def test_noise_needs_a_generator(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="pass a generator"):
        make([nn.Parameter(torch.zeros(1))], AdamW(**fields))


def test_the_schedule_warms_up_anneals_and_stays() -> None:
    config = AdamW(lr=2e-3, anneal_steps=1000)
    rates = {step: learning_rate(config, step) for step in (0, 5, 10, 510, 1010, 5000)}
    # from 2e-3 to 2e-4 along half a cosine: the middle is their mean
    assert rates == pytest.approx({0: 0, 5: 1e-3, 10: 2e-3, 510: 1.1e-3, 1010: 2e-4, 5000: 2e-4})
    quarter = 2e-4 + 1.8e-3 * (1 + math.cos(math.pi / 4)) / 2
    assert learning_rate(config, 260) == pytest.approx(quarter)
    flat = AdamW(lr=2e-3)
    assert [learning_rate(flat, step) for step in (0, 1, 10, 99_999)] == [0, 2e-4, 2e-3, 2e-3]


@pytest.mark.parametrize(
    ("rows", "size", "share", "expected"),
    [
        (3764, 512, 0.5, 512),  # the published rule: at most 512, at most half
        (100, 512, 0.5, 50),
        (101, 512, 0.5, 51),
        (100, None, 0.25, 25),
        (100, 512, None, 100),
        (100, None, None, 100),
    ],
)
def test_a_batch_is_limited_by_rows_and_by_share(
    rows: int, size: int | None, share: float | None, expected: int
) -> None:
    batches = Batches(torch.arange(rows), size, 0, share)
    assert (batches.size, batches.full) == (expected, expected == rows)
    assert len(batches.next()) == expected


def test_an_epoch_of_the_published_split_has_eight_batches() -> None:
    batches = Batches(torch.arange(3764), 512, 0, 0.5)
    sizes = [len(batches.next()) for _ in range(16)]
    assert sizes == ([512] * 7 + [180]) * 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clip_norm", 0.0),
        ("noise_factor", -1.0),
        ("anneal_steps", 0),
        ("batch_share", 0.0),
        ("batch_share", 1.5),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"optim.{name} = {value}"):
        make([nn.Parameter(torch.zeros(1))], AdamW(**{name: value}))


NOISY = {
    "model.name": "post_ln", "model.d_model": 8, "model.n_heads": 2, "model.d_mlp": 16,
    "model.n_layers": 2, "optim.batch_size": 10,
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.dropout": 0.2, "model.weight_noise": 0.01},
        {"optim.weight_decay_form": "to_init"},
        {"optim.weight_decay_form": "jiggle", "optim.noise_factor": 0.1, "model.dropout": 0.2},
        {"optim.weight_decay_form": "honest", "optim.anneal_steps": 30},
    ],
)
def test_resume_is_exact_with_a_post_ln_model_and_noise(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    config = tiny.config()
    whole = tiny.train(config, tmp_path / "whole", **NOISY, **changes)
    tiny.train(config, tmp_path / "halves", **NOISY, **changes, **{"stop.max_steps": 27})
    halves = tiny.train(config, tmp_path / "halves", **NOISY, **changes)
    found, expected = tiny.trained_parts(halves.path), tiny.trained_parts(whole.path)
    del found["checkpoint 27"]  # where the stop fell
    assert found == expected
    if changes:  # the control: the changed setting does something
        plain = tiny.train(config, tmp_path / "plain", **NOISY)
        assert tiny.trained_parts(plain.path) != expected


@pytest.mark.parametrize("noisy", [{"model.dropout": 0.2}, {"optim.noise_factor": 0.1}])
def test_another_noise_seed_is_another_run(noisy: dict[str, Any], tmp_path: Path) -> None:
    settings = NOISY | noisy | {"stop.max_steps": 20}
    one = tiny.train(tiny.config(), tmp_path / "one", **settings)
    two = tiny.train(tiny.config(), tmp_path / "two", **settings, **{"seeds.noise": 1})
    assert tiny.trained_parts(one.path) != tiny.trained_parts(two.path)


TRM = {
    "model.name": "trm", "model.d_model": 8, "loss.name": "halting_cross_entropy",
    "optim.batch_size": 10, "optim.ema": 0.9, "model.L_cycles": 1, "stop.max_steps": 40,
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optim.update": "atan2", "optim.clip_norm": 1.0, "model.puzzle_positions": 2},
        {"model.mlp_t": False, "model.positions": "rope", "model.n_heads": 2,
         "model.halt_max_steps": 2, "model.halt_exploration": 0.5},
    ],
)  # fmt: skip
def test_resume_is_exact_with_a_recursive_model(changes: dict[str, Any], tmp_path: Path) -> None:
    config = tiny.config()
    whole = tiny.train(config, tmp_path / "whole", **TRM, **changes)
    tiny.train(config, tmp_path / "halves", **{**TRM, **changes, "stop.max_steps": 27})
    halves = tiny.train(config, tmp_path / "halves", **TRM, **changes)
    found, expected = tiny.trained_parts(halves.path), tiny.trained_parts(whole.path)
    del found["checkpoint 27"]  # where the stop fell
    assert found == expected
    stored = whole.checkpoint(40, weights="raw").weights
    assert "z_H_init" in stored  # fine-tuning starts from the very states
    built = whole.checkpoint(0, weights="raw").weights
    assert torch.equal(stored["z_H_init"], built["z_H_init"])
    assert not torch.equal(stored["embed.W_E"], built["embed.W_E"])
    if "model.puzzle_positions" in changes:
        assert not torch.equal(stored["puzzle"], built["puzzle"])
