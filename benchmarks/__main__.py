"""Run every benchmark: `python -m benchmarks`."""

from benchmarks import (
    bench_energy,
    bench_engine,
    bench_event,
    bench_growth,
    bench_masks,
    bench_oneshot,
    bench_permutation,
    bench_schedule,
    bench_startup,
    bench_sweep,
    bench_training,
    bench_transposable,
)

if __name__ == "__main__":
    bench_startup.main()
    bench_engine.main()
    bench_schedule.main()
    bench_energy.main()
    bench_event.main()
    bench_masks.main()
    bench_transposable.main()
    bench_permutation.main()
    bench_growth.main()
    bench_oneshot.main()
    bench_training.main([])
    bench_sweep.main()
