"""Binary operations on Z_n: one function each, whole tables at once.

An operation takes a, b (Int tensors of one shape) and n, and returns a o b in 0..n-1.
"""

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Int
from torch import Tensor

Operation = Callable[[Int[Tensor, " rows"], Int[Tensor, " rows"], int], Int[Tensor, " rows"]]


def add(a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int) -> Int[Tensor, " rows"]:
    """(a + b) mod n."""
    return (a + b) % n


def subtract(a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int) -> Int[Tensor, " rows"]:
    """(a - b) mod n."""
    return (a - b) % n


def multiply(a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int) -> Int[Tensor, " rows"]:
    """(a * b) mod n."""
    return (a * b) % n


def divide(a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int) -> Int[Tensor, " rows"]:
    """The c with b * c = a mod n, for prime n and b != 0.

    Raises ValueError at composite n or b = 0, where there is no single such c.
    """
    if not is_prime(n):
        raise ValueError(f"divide needs a prime n; {n} is composite: try {next_prime(n)}")
    if bool((b % n == 0).any()):
        raise ValueError("divide by 0; leave out the rows with b = 0")
    inverse = a.new_tensor([0, *(pow(k, -1, n) for k in range(1, n))])
    return (a * inverse[b]) % n


def x2_plus_xy_plus_y2(
    a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int
) -> Int[Tensor, " rows"]:
    """(a^2 + ab + b^2) mod n."""
    return (a * a + a * b + b * b) % n


def x2_plus_y(a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int) -> Int[Tensor, " rows"]:
    """(a^2 + b) mod n."""
    return (a**2 + b) % n


def x3_plus_y(a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int) -> Int[Tensor, " rows"]:
    """(a^3 + b) mod n."""
    return (a**3 + b) % n


def x2_plus_y2(a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int) -> Int[Tensor, " rows"]:
    """(a^2 + b^2) mod n."""
    return (a**2 + b**2) % n


def x2_plus_xy_plus_y2_plus_x(
    a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int
) -> Int[Tensor, " rows"]:
    """(a^2 + ab + b^2 + a) mod n."""
    return (a**2 + a * b + b**2 + a) % n


def x3_plus_xy(a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int) -> Int[Tensor, " rows"]:
    """(a^3 + ab) mod n."""
    return (a**3 + a * b) % n


def x3_plus_xy2_plus_y(
    a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int
) -> Int[Tensor, " rows"]:
    """(a^3 + ab^2 + b) mod n."""
    return (a**3 + a * b**2 + b) % n


def divide_or_subtract(
    a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int
) -> Int[Tensor, " rows"]:
    """(a / b) mod n where b is odd, (a - b) mod n where it is even; errors as `divide`."""
    odd = b % 2 == 1
    return torch.where(odd, divide(a, torch.where(odd, b, 1), n), subtract(a, b, n))


def add_or_multiply(
    a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int
) -> Int[Tensor, " rows"]:
    """(a + b) mod n where a is even, (a * b) mod n where it is odd."""
    return torch.where(a % 2 == 0, add(a, b, n), multiply(a, b, n))


def add_or_subtract(
    a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], n: int
) -> Int[Tensor, " rows"]:
    """(a + b) mod n where a is even, (a - b) mod n where it is odd."""
    return torch.where(a % 2 == 0, add(a, b, n), subtract(a, b, n))


OPERATIONS: Final[dict[str, Operation]] = {
    operation.__name__: operation
    for operation in (
        add, subtract, multiply, divide, x2_plus_y, x3_plus_y, x2_plus_y2, x2_plus_xy_plus_y2,
        x2_plus_xy_plus_y2_plus_x, x3_plus_xy, x3_plus_xy2_plus_y, divide_or_subtract,
        add_or_multiply, add_or_subtract,
    )
}  # fmt: skip
"""Every operation by its name; a task of another package may add its own."""

NEEDS_NONZERO_B = frozenset({"divide"})
"""Operations whose table leaves out the rows with b = 0."""

NEEDS_PRIME = frozenset({"divide", "divide_or_subtract"})
"""Operations that exist for prime n only."""

COMMUTATIVE = frozenset({"add", "multiply", "x2_plus_y2", "x2_plus_xy_plus_y2"})
"""Operations with a o b = b o a."""


def is_prime(n: int) -> bool:
    """Whether n is prime."""
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


def next_prime(n: int) -> int:
    """The smallest prime above n."""
    n += 1
    while not is_prime(n):
        n += 1
    return n
