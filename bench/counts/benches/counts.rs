//! Counts the instructions and allocations of the core's hot paths, with gungraun under valgrind: `cargo xtask counts`.
//!
//! Each workload says what one call may take at most. Instructions: 1.15 times the measured count, which leaves room for
//! another C library and for small changes, or a goal. Allocations: 0.1 more than the measured count, or about half of one
//! more where a collection grows now and then.
//!
//! About ten instructions of each count are those of the counting itself. The limit is the same for every number of watches
//! or streams, so that a call that takes longer among many fails. `cargo xtask counts` makes its tables of the names of
//! functions and ids.

#![allow(missing_docs)] // Of what the macros make.

use etcd_watch_bench_counts::{
    decode::Decode,
    machine::{
        AskStats, Export, Open, PollTimeout, Progress, Take, TakeIn, TakeInCreated, TakeNothing, Whole,
    },
    of_streams, of_watches,
    workload::{CALLS, COUNTED, run},
};
use gungraun::{
    Callgrind, Dhat, DhatMetric, EntryPoint, EventKind, LibraryBenchmarkConfig, library_benchmark,
    library_benchmark_group, main,
};

/// What a call may take at most: instructions, and allocations in hundredths.
fn limits(instructions: u64, allocations: u64) -> LibraryBenchmarkConfig {
    let entry = || EntryPoint::Custom(COUNTED.to_owned());
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind.entry_point(entry()).hard_limits([(EventKind::Ir, instructions * CALLS)]);
    // An allocation counts if the counted call is among its callers, however deep.
    let mut dhat = Dhat::with_args(["--num-callers=100"]);
    dhat.entry_point(entry()).hard_limits([(DhatMetric::TotalBlocks, allocations * CALLS / 100)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind).tool(dhat);
    config
}

#[library_benchmark]
#[bench::puts_100(args = (100, 32), config = limits(22_617, 110))]
#[bench::puts_1(args = (1, 256), config = limits(680, 10))]
fn decode(events: u32, value_bytes: usize) {
    run(Decode::of(events, value_bytes));
}

#[library_benchmark]
#[bench::puts_100(args = (100, 32), config = limits(23_049, 110))]
#[bench::puts_1(args = (1, 256), config = limits(716, 10))]
fn decode_and_drop(events: u32, value_bytes: usize) {
    run(Decode::of(events, value_bytes).and_drop());
}

// The limit is the goal.
#[library_benchmark]
#[bench::puts_1(args = (1, 256), config = limits(480, 10))]
fn decode_without_a_header(events: u32, value_bytes: usize) {
    run(Decode::without_header(events, value_bytes));
}

library_benchmark_group!(name = frames, benchmarks = [decode, decode_and_drop, decode_without_a_header]);

#[library_benchmark(config = limits(2_123, 210))]
#[bench::watches_1(1)]
#[bench::watches_1_000(1_000)]
#[bench::watches_100_000(100_000)]
fn take_in_a_frame_of_1_put(watches: usize) {
    run(TakeIn::of(of_watches(watches)));
}

#[library_benchmark(config = limits(3_257, 210))]
#[bench::watches_1(1)]
#[bench::watches_1_000(1_000)]
#[bench::watches_100_000(100_000)]
fn decode_a_frame_of_1_put_take_it_in_and_next_twice(watches: usize) {
    run(Whole::of(of_watches(watches)));
}

#[library_benchmark(config = limits(345, 10))]
#[bench::watches_1(1)]
#[bench::watches_1_000(1_000)]
#[bench::watches_100_000(100_000)]
fn next_that_gets_1_response(watches: usize) {
    run(Take::of(of_watches(watches)));
}

#[library_benchmark(config = limits(164, 10))]
#[bench::watches_1(1)]
#[bench::watches_1_000(1_000)]
#[bench::watches_100_000(100_000)]
fn next_that_gets_nothing(watches: usize) {
    run(TakeNothing::of(of_watches(watches)));
}

#[library_benchmark(config = limits(1_544, 10))]
#[bench::watches_1(1)]
#[bench::watches_1_000(1_000)]
#[bench::watches_100_000(100_000)]
fn take_in_a_manual_progress_reply(watches: usize) {
    run(Progress::of(of_watches(watches)));
}

#[library_benchmark(config = limits(3_974, 450))]
#[bench::watches_1(1)]
#[bench::watches_1_000(1_000)]
#[bench::watches_100_000(100_000)]
fn watch_up_to_its_create_request(watches: usize) {
    run(Open::of(of_watches(watches)));
}

#[library_benchmark(config = limits(2_352, 50))]
#[bench::watches_1(1)]
#[bench::watches_1_000(1_000)]
#[bench::watches_100_000(100_000)]
fn take_in_a_created_frame(watches: usize) {
    run(TakeInCreated::of(of_watches(watches)));
}

#[library_benchmark(config = limits(271, 10))]
#[bench::watches_1(1)]
#[bench::watches_1_000(1_000)]
#[bench::watches_100_000(100_000)]
fn watch_stats_of_1_watch(watches: usize) {
    run(AskStats::of(of_watches(watches)));
}

#[library_benchmark(config = limits(173, 10))]
#[bench::watches_1(1)]
#[bench::watches_1_000(1_000)]
#[bench::watches_100_000(100_000)]
fn stats_and_max_lag_for_an_export_of_metrics(watches: usize) {
    run(Export::of(of_watches(watches)));
}

library_benchmark_group!(
    name = watches,
    benchmarks = [
        take_in_a_frame_of_1_put,
        decode_a_frame_of_1_put_take_it_in_and_next_twice,
        next_that_gets_1_response,
        next_that_gets_nothing,
        take_in_a_manual_progress_reply,
        watch_up_to_its_create_request,
        take_in_a_created_frame,
        watch_stats_of_1_watch,
        stats_and_max_lag_for_an_export_of_metrics,
    ]
);

#[library_benchmark(config = limits(19, 10))]
#[bench::streams_1(1)]
#[bench::streams_1_000(1_000)]
#[bench::streams_10_000(10_000)]
fn poll_timeout(streams: usize) {
    run(PollTimeout::of(of_streams(streams)));
}

// Each frame is the first with events on its stream, except with one stream.
#[library_benchmark(config = limits(2_592, 210))]
#[bench::streams_1(1)]
#[bench::streams_1_000(1_000)]
#[bench::streams_10_000(10_000)]
fn take_in_a_frame_of_1_put_on_one_of_many_streams(streams: usize) {
    run(TakeIn::of(of_streams(streams)));
}

#[library_benchmark(config = limits(345, 10))]
#[bench::streams_1(1)]
#[bench::streams_1_000(1_000)]
#[bench::streams_10_000(10_000)]
fn next_that_gets_1_response_on_one_of_many_streams(streams: usize) {
    run(Take::of(of_streams(streams)));
}

library_benchmark_group!(
    name = streams,
    benchmarks = [
        poll_timeout,
        take_in_a_frame_of_1_put_on_one_of_many_streams,
        next_that_gets_1_response_on_one_of_many_streams,
    ]
);

main!(library_benchmark_groups = [frames, watches, streams]);
