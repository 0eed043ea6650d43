//! `etcd_watch_testkit::fuzz`, target `calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| etcd_watch_testkit::fuzz::run("calls", data));
