"""Run every benchmark: `python -m benchmarks`."""

from benchmarks import bench_engine, bench_masks, bench_startup, bench_training

if __name__ == "__main__":
    bench_startup.main()
    bench_engine.main()
    bench_masks.main()
    bench_training.main([])
