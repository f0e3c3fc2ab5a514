//! PURE: what crosses the control socket: requests, replies, events; frames.
