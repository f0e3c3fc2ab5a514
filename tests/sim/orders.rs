//! Every short order of events over two and three units.
