//! `etcd_watch_testkit::fuzz`, target `endpoints`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| etcd_watch_testkit::fuzz::run("endpoints", data));
