//! PURE: events in, actions out, time as an argument.
