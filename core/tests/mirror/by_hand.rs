//! Transitions, one by one.
