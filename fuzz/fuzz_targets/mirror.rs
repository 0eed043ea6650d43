//! `etcd_watch_testkit::fuzz`, target `mirror`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| etcd_watch_testkit::fuzz::run("mirror", data));
