"""The energy of a result in words: its interval, where it goes, whether a machine fits its FPGA, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nmsim.arch.schema import SystolicArch
from nmsim.energy.account import COMPONENTS, Account, table_name
from nmsim.energy.area import FPGA, areas_mm2, fpga_use
from nmsim.energy.cost import JOULES_PER_KWH, Tariff, bill
from nmsim.energy.timeline import PowerTrace
from nmsim.energy.uncertainty import Interval, Spread, order
from nmsim.report.tables import WIDTH, bar, percent, quantity, table, wrap
from nmsim.results.io import amounts
from nmsim.results.result import Result

NO_TARIFF = Tariff()


def with_interval(interval: Interval, unit: str) -> str:
    """ "12.3 mJ (9.1–16.8)": a value and its 90 % interval in the same unit."""
    text = quantity(interval.value, unit, 3)
    number, _, shown = text.partition(" ")
    scale = interval.value / float(number) if _is_number(number) and float(number) else 1.0
    low, high = (_plain(bound / scale) for bound in (interval.low, interval.high))
    return f"{number} {shown} ({low}–{high})"


def _plain(value: float) -> str:
    """Three digits, without an exponent where four stand before the point."""
    text = f"{value:.3g}"
    return f"{float(text):.0f}" if "e+" in text and value < 1e6 else text


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("e+", "").isdigit()


def spread_of(result: Result) -> Spread | None:
    """What the energy of a result is made of, None where its engine counted no actions."""
    if not isinstance(result.account, Account) or not result.account.counts:
        return None
    return Spread.of(result.account, result.workload["repeat"])


def energy_text(result: Result, tariff: Tariff = NO_TARIFF) -> str:
    """The sections on energy of a result's text."""
    if (spread := spread_of(result)) is None:
        return ""
    interval = spread.interval()
    found = amounts(result, "component")
    total = sum(found.values()) or 1.0
    rows = [
        [name, quantity(found[name], "J"), percent(found[name] / total), bar(found[name] / total), COMPONENTS[name]]
        for name in COMPONENTS if found.get(name, 0.0) > 0
    ]  # fmt: skip
    operands = result.breakdown("operand", "energy_j")["energy_j"]
    shown = sorted(((str(n), float(v)) for n, v in operands.items() if n not in COMPONENTS), key=lambda x: -x[1])
    moved = ", ".join(f"{name} {quantity(joules, 'J', 3)}" for name, joules in shown)
    parts = [
        f"Energy by component: {with_interval(interval, 'J')}, 9 of 10 draws of the table",
        table(rows, align="lrrll"),
    ]
    if moved:
        parts.append(_wrapped(f"on operands: {moved}"))
    parts += [_wrapped(line) for line in (*_over_time(result), *_area(result), *_fit(result), *_bill(interval, tariff))]
    return "\n".join(parts)


def _wrapped(line: str) -> str:
    return "\n".join(f"  {part}" for part in wrap(line, WIDTH - 2))


def _over_time(result: Result) -> list[str]:
    """Peak and average power, where the engine knows when things happen."""
    if result.engine == "analytic":
        return []
    from nmsim.engines.event.result import EventResult

    return [power_line(result.power())] if isinstance(result, EventResult) and result.executions else []


def power_line(trace: PowerTrace) -> str:
    """Average and peak in words and, where the machine has a cap, for how long more than it is drawn."""
    text = (
        f"over time, every op once: average {quantity(trace.average_w, 'W', 3)}, peak {quantity(trace.peak_w, 'W', 3)}"
        f" ({trace.peak_w / trace.average_w:.2f}x)"
    )
    if trace.cap_w is None:
        return text
    over = trace.over(trace.cap_w * (1 + 1e-9))
    held = "never exceeded" if over == 0 else f"exceeded in {percent(over)} of the time"
    return f"{text}; the cap of {quantity(trace.cap_w, 'W', 3)}, which holds on the mean of an op, is {held}"


def _area(result: Result) -> list[str]:
    """The parts of a machine's area, where it is estimated from them."""
    arch: Any = result.arch
    if not isinstance(arch, SystolicArch) or table_name(arch).startswith(FPGA):
        return []
    parts = areas_mm2(arch)
    total = sum(parts.values())
    shares = ", ".join(f"{name} {percent(part / total)}" for name, part in parts.items() if part > 0)
    return [f"area (estimate, to a factor of two): {quantity(total, 'mm2', 3)}: {shares}"]


def _fit(result: Result) -> list[str]:
    """What the machine takes of its FPGA, where it is in one."""
    arch: Any = result.arch
    if not isinstance(arch, SystolicArch) or not table_name(arch).startswith(FPGA):
        return []
    part = table_name(arch).removeprefix(FPGA)
    uses = fpga_use(arch, part)
    shares = ", ".join(f"{u.resource} {u.used:,.0f} of {u.available:,.0f}" for u in uses)
    verdict = "fits" if all(u.fits for u in uses) else "does NOT fit"
    return [f"{verdict} an {part} (estimate): {shares}"]


def _bill(interval: Interval, tariff: Tariff) -> list[str]:
    if tariff.price_per_kwh is None and tariff.gco2_per_kwh is None:
        return []
    costs = [bill(joules, tariff) for joules in (interval.value, interval.low, interval.high)]
    inputs = [f"{JOULES_PER_KWH:g} J a kWh", *([f"PUE {tariff.overhead:g}"] if tariff.overhead != 1 else [])]
    lines = [f"{costs[0].kwh:.4g} kWh ({costs[1].kwh:.3g}–{costs[2].kwh:.3g})"]
    if tariff.price_per_kwh is not None:
        low, high = ((c.price or 0.0) for c in costs[1:])
        lines.append(f"{costs[0].price:.4g} ({low:.3g}–{high:.3g}) in the currency of the price")
        inputs.append(f"{tariff.price_per_kwh:g} a kWh")
    if tariff.gco2_per_kwh is not None:
        low, high = ((c.kgco2e or 0.0) for c in costs[1:])
        lines.append(f"{costs[0].kgco2e:.4g} kgCO2e ({low:.3g}–{high:.3g})")
        inputs.append(f"{tariff.gco2_per_kwh:g} gCO2e a kWh")
    return [f"cost: {'; '.join(lines)}, at {', '.join(inputs)}"]


def saved_spread(record: Mapping[str, Any]) -> Spread | None:
    """The spread that a saved result's energy record holds, None where it holds none."""
    sums: dict[tuple[str, float], float] = {}
    for term in record.get("terms", ()):
        key = str(term["group"]), float(term["sigma"])
        sums[key] = sums.get(key, 0.0) + float(term["joules"])
    return Spread(sums) if sums else None


def order_line(first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str]) -> str:
    """Whether the order of two energies survives the uncertainty of the table; empty where a record lacks it.

    Both results must be of one machine, since one table is drawn for both.
    """
    one, other = saved_spread(first), saved_spread(second)
    if one is None or other is None:
        return ""
    found = order(one, other)
    ratio = f"{found.ratio.value:.3g}x ({found.ratio.low:.3g}–{found.ratio.high:.3g})"
    verdict = "the order survives" if found.survives else "the order is NOT settled"
    text = (
        f"Energy of {names[1]} over {names[0]}: {ratio}, drawn from one table for both; "
        f"{verdict}: {percent(found.agree)} of draws agree"
    )
    return "\n".join(wrap(text, WIDTH))
