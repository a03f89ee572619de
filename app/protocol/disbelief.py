"""What is said of a measurement that can't be true."""

from app.quantities import Quantity


def disbelief(name: str, value: float, quantity: Quantity, where: str) -> str:
    """The warning: which value of whom, and within which bounds it would have been kept."""
    given = f"{value:.6g}" if abs(value) < 1e300 else "a number that large"  # an integer may have hundreds of digits
    return (
        f"{name} of {where} can't be {given} {quantity.unit}".rstrip()
        + f": it is stored as missing (true values lie from {quantity.low:g} to {quantity.high:g})"
    )
